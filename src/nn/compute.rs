//! How and where networks are computed.

use candle_core::{Device, Result};

use super::Params;

/// How and where networks are computed.
#[derive(Debug, Clone, Default)]
pub enum Compute {
    /// By this module's fused passes on the CPU.
    #[default]
    Fused,
    /// By candle's own operations on this device. On the CPU that is two to eight times slower than the fused passes, and
    /// there to check them.
    Composed(Device),
}

impl Compute {
    /// All that this machine and this build can do.
    pub fn at_hand() -> Vec<Self> {
        let graphics = Device::new_cuda(0).ok().map(Self::Composed);
        let all = [Some(Self::Fused), Some(Self::Composed(Device::Cpu)), graphics];
        all.into_iter().flatten().collect()
    }

    /// Where inputs and results of the networks are.
    pub fn device(&self) -> &Device {
        match self {
            Self::Fused => &Device::Cpu,
            Self::Composed(device) => device,
        }
    }

    /// Whether reading a number back does not have to wait for another processor.
    pub fn reads_at_once(&self) -> bool {
        self.device().is_cpu()
    }

    /// A copy of a network's weights that is computed in this way.
    pub(crate) fn take(&self, params: &Params) -> Result<Params> {
        match self {
            Self::Fused => params.fused(),
            Self::Composed(device) => params.composed(device),
        }
    }
}
