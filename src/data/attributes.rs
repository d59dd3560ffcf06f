//! The attributes of a file, as text.
//!
//! A text of variable length is stored as its length and its place in a global heap. The library (2.2.0,
//! `H5Tconv_vlen.c`) reserves and clears as much memory as the length says, up to 4 GiB for each text, before it compares
//! the length with the heap. It shows what is stored to nobody but conversions between types; so there is one here that
//! "converts" references to plain bytes, which are looked at before any text is read.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use hdf5::types::{TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Attribute, Datatype, h5check};
use hdf5_sys::h5a::{H5Aget_storage_size, H5Aread};
use hdf5_sys::h5i::hid_t;
use hdf5_sys::h5t::{
    H5T_BKG_NO, H5T_CONV_INIT, H5T_OPAQUE, H5T_PERS_SOFT, H5T_cdata_t, H5Tclose, H5Tcreate, H5Tget_size, H5Tregister,
};

use super::DataError;
use super::error::valid;
use super::file::Source;

/// Attribute arrays longer than this are left out.
const LONGEST_ARRAY: usize = 4096;

/// Bytes of text in all attributes of a file together; what would exceed them is left out.
const MOST_TEXT: u64 = 16 << 20;

/// What messages call the attributes of a file.
const ALL: &str = "(attributes)";

impl Source<'_> {
    /// The file's attributes as text; what is neither text nor a number is left out.
    ///
    /// # Errors
    /// [`DataError::Read`] if the library cannot read them, [`DataError::Dataset`] for a text that cannot be in the
    /// file.
    pub fn attributes(&self) -> Result<BTreeMap<String, String>, DataError> {
        let failed = |error: hdf5::Error| self.failed(ALL, &error);
        let mut found = BTreeMap::new();
        let mut room = MOST_TEXT;
        for name in self.file.attr_names().map_err(failed)? {
            let name = valid(&name).into_owned();
            let attribute = self.file.attr(&name).map_err(failed)?;
            let shape = attribute.shape();
            let length = shape.iter().try_fold(1_usize, |length, &side| length.checked_mul(side));
            let Some(length @ 1..=LONGEST_ARRAY) = length else {
                continue;
            };
            let Ok(kind) = attribute.dtype().and_then(|dtype| dtype.to_descriptor()) else {
                continue;
            };
            if matches!(kind, TypeDescriptor::VarLenUnicode | TypeDescriptor::VarLenAscii) {
                let lengths = text_lengths(&attribute, length).map_err(failed)?;
                let Some(left) = room.checked_sub(self.all_of(&lengths, &name)?) else {
                    continue;
                };
                room = left;
            }
            if let Some(values) = values(&attribute, &kind).map_err(failed)? {
                found.insert(name, values.join(", "));
            }
        }
        Ok(found)
    }

    /// Bytes of all texts of an attribute, none of which is longer than the file.
    fn all_of(&self, lengths: &[u64], attribute: &str) -> Result<u64, DataError> {
        if let Some(length) = lengths.iter().find(|length| **length > self.file_size) {
            let expected = format!("texts that fit in the file's {} bytes", self.file_size);
            return Err(self.wrong(ALL, expected, format!("one of {length} bytes in `{attribute}`")));
        }
        Ok(lengths.iter().sum())
    }
}

/// The values of an attribute as text; `None` for types that are left out.
fn values(attribute: &Attribute, kind: &TypeDescriptor) -> hdf5::Result<Option<Vec<String>>> {
    fn texts<T>(values: impl IntoIterator<Item = T>, text: impl Fn(T) -> String) -> Vec<String> {
        values.into_iter().map(text).collect()
    }
    Ok(Some(match kind {
        TypeDescriptor::VarLenUnicode => {
            texts(&attribute.read_raw::<VarLenUnicode>()?, |text| valid(text).into_owned())
        }
        TypeDescriptor::VarLenAscii => texts(&attribute.read_raw::<VarLenAscii>()?, |text| valid(text).into_owned()),
        TypeDescriptor::Float(_) => texts(attribute.read_raw::<f64>()?, |value| value.to_string()),
        TypeDescriptor::Unsigned(_) => texts(attribute.read_raw::<u64>()?, |value| value.to_string()),
        TypeDescriptor::Integer(_) | TypeDescriptor::Boolean => {
            texts(attribute.read_raw::<i64>()?, |value| value.to_string())
        }
        _ => return Ok(None),
    }))
}

/// Bytes that each of the `count` texts of an attribute claims to have. The texts are of variable length and not read.
fn text_lengths(attribute: &Attribute, count: usize) -> hdf5::Result<Vec<u64>> {
    let _guard = hdf5_sys::LOCK.lock();
    register_conversion()?;
    // SAFETY: the id is that of an attribute that stays open, under the library's lock.
    let stored = unsafe { H5Aget_storage_size(attribute.id()) };
    let size = usize::try_from(stored).unwrap_or(0) / count.max(1);
    if size == 0 {
        return Ok(Vec::new());
    }
    let bytes = PlainBytes::new(size)?;
    let mut references = vec![0_u8; size * count];
    // SAFETY: both ids are open, and there is room for `count` elements of the type's size.
    h5check(unsafe { H5Aread(attribute.id(), bytes.0, references.as_mut_ptr().cast()) })?;
    let length = |reference: &[u8]| {
        let bytes = reference.first_chunk::<4>();
        bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
    };
    Ok(references.chunks_exact(size).map(length).collect())
}

/// The type of so many bytes without a meaning. Used under the library's lock.
struct PlainBytes(hid_t);

impl PlainBytes {
    fn new(size: usize) -> hdf5::Result<Self> {
        // SAFETY: asks nothing of its arguments.
        h5check(unsafe { H5Tcreate(H5T_OPAQUE, size) }).map(Self)
    }
}

impl Drop for PlainBytes {
    fn drop(&mut self) {
        // SAFETY: the id is that of a type which nobody else closes.
        unsafe { H5Tclose(self.0) };
    }
}

/// Makes [`as_stored`] known to the library. Called under the library's lock.
fn register_conversion() -> hdf5::Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_some() {
        return Ok(());
    }
    let (text, bytes) = (Datatype::from_type::<VarLenUnicode>()?, PlainBytes::new(1)?);
    let name = c"references as stored";
    // SAFETY: the name ends with a zero, both ids are open, and the function has the signature that is asked for.
    h5check(unsafe { H5Tregister(H5T_PERS_SOFT, name.as_ptr(), text.id(), bytes.0, Some(as_stored)) })?;
    DONE.get_or_init(|| ());
    Ok(())
}

/// A conversion that leaves everything as it is, between types of the same size.
extern "C" fn as_stored(
    from: hid_t,
    to: hid_t,
    conversion: *mut H5T_cdata_t,
    _count: usize,
    _stride: usize,
    _background_stride: usize,
    _values: *mut c_void,
    _background: *mut c_void,
    _transfer: hid_t,
) -> c_int {
    // SAFETY: the library hands over a record of its own for the time of this call.
    let Some(conversion) = (unsafe { conversion.as_mut() }) else {
        return -1;
    };
    if conversion.command == H5T_CONV_INIT {
        conversion.need_bkg = H5T_BKG_NO;
        // SAFETY: the library hands over open types.
        let same = unsafe { H5Tget_size(from) == H5Tget_size(to) };
        return if same { 0 } else { -1 };
    }
    0
}
