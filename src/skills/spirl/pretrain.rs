//! How the program trains and stores a `SPiRL` skill model: batches and noise in, numbers for the metrics out; networks
//! and training state by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::{Decoder, PriorNetwork, SkillBatch, Spirl, Use, not_gaussian};
use crate::nn::{Compute, Params};
use crate::pretraining::{Numbers, Pretrain};
use crate::rng::Stream;
use crate::skills::policy::IN_SEQUENCE;
use crate::skills::weights::{export_all, export_moments, import_all, import_moments, one_name_each};
use crate::skills::{GaussianNetwork, Result, Sees, SkillModel, Standardiser};

/// Draws of random skills per validated sequence, as in the original evaluator.
const VALIDATION_DRAWS: usize = 100;
const BETA_OPTIMISER: &str = "beta_optimiser.";

impl Spirl {
    /// Every network with its prefix in the original checkpoints.
    pub fn parts(&self) -> Vec<(String, &Params)> {
        let mut parts = self.embedding();
        for (member, prior) in self.priors.iter().enumerate() {
            parts.extend(
                prior
                    .parts()
                    .into_iter()
                    .map(|(name, params)| (format!("p.{member}.{name}"), params)),
            );
        }
        if let Some(beta) = &self.beta {
            parts.push(("_log_beta.".into(), &beta.log_beta));
        }
        parts
    }

    /// Posterior and decoder.
    fn embedding(&self) -> Vec<(String, &Params)> {
        let mut parts = vec![
            ("q.0.cell.".to_owned(), self.posterior.encoder.params()),
            ("q.1.".to_owned(), self.posterior.head.params()),
        ];
        if let Some(eye) = &self.eye {
            parts.push((format!("img_encoder.{IN_SEQUENCE}"), eye.params()));
        }
        match &self.decoder {
            Decoder::Closed(net) => parts.push(("decoder.".into(), net.params())),
            Decoder::Open { lstm, start } => {
                parts.push(("decoder.cell.".into(), lstm.params()));
                // Its entries carry their whole names.
                parts.extend(lstm.start_params().map(|params| (String::new(), params)));
                if let Some(networks) = start {
                    parts.push(("decoder_input_initalizer.".into(), networks.input.params()));
                    parts.push(("decoder_hidden_initalizer.".into(), networks.hidden.params()));
                }
            }
        }
        parts
    }

    /// What the model's optimiser steps.
    pub(super) fn trained(&self) -> Vec<Params> {
        let frozen = if self.config.freeze_embedding {
            self.embedding().len()
        } else {
            0
        };
        let double_step = self.config.auto_beta.is_some_and(|beta| beta.double_step);
        let all = self.parts();
        let kept = if self.beta.is_some() && !double_step {
            all.len() - 1
        } else {
            all.len()
        };
        all.into_iter()
            .take(kept)
            .skip(frozen)
            .map(|(_, params)| params.clone())
            .collect()
    }

    /// Number of trained weights.
    pub fn parameter_count(&self) -> usize {
        self.parts().iter().map(|(_, params)| params.len()).sum()
    }

    /// Takes only posterior and decoder by their original names, to train a new prior for known skills (see
    /// [`SpirlConfig::freeze_embedding`](super::SpirlConfig::freeze_embedding)).
    ///
    /// # Errors
    /// As [`Pretrain::import`].
    pub fn import_embedding(&mut self, from: &BTreeMap<String, Tensor>) -> Result<()> {
        self.take(from, Self::embedding)
    }

    /// Takes the networks that `which` names, and the standardisation, or nothing.
    fn take(&mut self, from: &BTreeMap<String, Tensor>, which: fn(&Self) -> Vec<(String, &Params)>) -> Result<()> {
        let from = one_name_each(from);
        let standardiser = Standardiser::import(self.standardiser.is_some(), &from, self.dims.state)?;
        import_all(&which(self), &from)?;
        self.standardiser = standardiser.map(|seen| seen.on(self.compute.device())).transpose()?;
        Ok(())
    }
}

impl Pretrain for Spirl {
    fn window(&self) -> usize {
        self.config.length + 1 + self.lead()
    }

    fn sees(&self) -> Sees {
        self.dims.sees()
    }

    fn frames(&self) -> usize {
        self.times_seen()
    }

    fn train(&mut self, states: Tensor, actions: Tensor, noise: &mut Stream, lr_scale: f64) -> Result<Numbers> {
        let noise = noise.normal_tensor((states.dim(0)?, self.config.latent))?;
        self.stepper.scale_learning_rate(lr_scale);
        let metrics = self.train_step(&SkillBatch { states, actions }, &noise)?;
        Ok(vec![
            ("reconstruction", metrics.reconstruction),
            ("kl", metrics.kl),
            ("prior", metrics.prior),
            ("total", metrics.total),
            ("kl_weight", metrics.kl_weight),
            ("gradient_norm", metrics.gradient_norm),
            ("skipped", f32::from(u8::from(metrics.skipped))),
        ])
    }

    fn train_unread(&mut self, states: Tensor, actions: Tensor, noise: &mut Stream, lr_scale: f64) -> Result<()> {
        let noise = noise.normal_tensor((states.dim(0)?, self.config.latent))?;
        self.stepper.scale_learning_rate(lr_scale);
        self.train_step_unread(&SkillBatch { states, actions }, &noise)
    }

    fn reads_at_once(&self) -> bool {
        self.compute.reads_at_once()
    }

    fn computed_by(self: Box<Self>, compute: &Compute) -> Result<Box<dyn Pretrain>> {
        Ok(Box::new(Self::computed_by(*self, compute)?))
    }

    fn validate(&mut self, states: Tensor, actions: Tensor, noise: &mut Stream) -> Result<Numbers> {
        let (rows, latent) = (states.dim(0)?, self.config.latent);
        let posterior = noise.normal_tensor((rows, latent))?;
        let draws = noise.normal_tensor((VALIDATION_DRAWS, rows, latent))?;
        let (metrics, top) = self.validate_step(&SkillBatch { states, actions }, &posterior, &draws)?;
        let top = top.summary();
        Ok(vec![
            ("reconstruction", metrics.reconstruction),
            ("kl", metrics.kl),
            ("prior", metrics.prior),
            ("total", metrics.total),
            ("top100_mse", top.best_mean as f32),
            ("all100_mse", top.all_mean as f32),
        ])
    }

    fn export(&self) -> Result<BTreeMap<String, Tensor>> {
        export_all(&self.parts(), self.standardiser.as_ref())
    }

    /// Open-loop checkpoints hold the decoder twice, as `decoder.cell.*` and `decoder.lstm.cell.*`; either will do.
    fn import(&mut self, from: &BTreeMap<String, Tensor>) -> Result<()> {
        self.take(from, Self::parts)
    }

    fn export_optimiser(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut out = self.stepper.export()?;
        if let Some(beta) = &self.beta {
            export_moments(BETA_OPTIMISER, &beta.optimiser, &mut out)?;
        }
        Ok(out)
    }

    fn import_optimiser(&mut self, from: &BTreeMap<String, Tensor>) -> Result<()> {
        self.stepper.import(from)?;
        if let Some(beta) = &mut self.beta {
            import_moments(BETA_OPTIMISER, &mut beta.optimiser, from)?;
        }
        Ok(())
    }

    fn embed(&self, states: Tensor, actions: Tensor) -> Result<Option<Tensor>> {
        let batch = SkillBatch { states, actions }.to_device(self.compute.device())?;
        self.check_batch(&batch)?;
        let views = self.views(&batch, Use::Frozen)?;
        let posterior = self.posterior(views.as_ref(), &batch.actions, Use::Frozen)?;
        Ok(Some(posterior.mu.to_device(&Device::Cpu)?))
    }

    fn policy_prior(&self) -> Result<GaussianNetwork> {
        let network = self
            .priors
            .first()
            .and_then(PriorNetwork::gauss)
            .ok_or_else(not_gaussian)?;
        let mut own = network.moved(&Compute::Fused)?.with_threads(1);
        let standardiser = self.standardiser.as_ref().map(|seen| seen.on(&Device::Cpu));
        own.set_standardiser(standardiser.transpose()?);
        Ok(own)
    }

    fn into_skills(self: Box<Self>) -> Option<Arc<dyn SkillModel>> {
        Some(Arc::new(*self))
    }
}
