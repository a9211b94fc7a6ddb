//! How a value stands in Redis, behind its lease.
//!
//! ```text
//! 8  the sequence of invalidations at which its load began   } read by the scripts as well
//! 2  how many tags, and of each 2 of its length and itself   }
//! 4  CRC-32 of all else
//! 2  "pc"      1  the version of this layout      1  codec      1  flags
//! 4  schema version of the value
//! 8  the time its load took, in microseconds
//! 4  the length of the value before it was compressed, if it is
//! 2  the length of the entity tag and itself, if there is one
//!    the value
//! ```

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

const MAGIC: [u8; 3] = [b'p', b'c', 1];
const COMPRESSED: u8 = 1;
const HAS_ETAG: u8 = 2;
/// Redis' own bound of a value.
const LONGEST: usize = 512 * 1024 * 1024;

/// How values are written in Redis. Each is read by what it was written with, so that processes may
/// differ, and change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Codec {
    /// Small and fast. It knows fields by their order alone: raise
    /// [`schema_version`](crate::Builder::schema_version) whenever the type changes.
    #[default]
    Postcard,
    /// Larger and several times slower, and readable by others; new fields with
    /// `#[serde(default)]` do no harm. Also for types that need to know what they are read from,
    /// such as `serde_json::Value` and untagged enums.
    Json,
}

impl Codec {
    const fn byte(self) -> u8 {
        match self {
            Self::Postcard => 1,
            Self::Json => 2,
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Postcard),
            2 => Some(Self::Json),
            _ => None,
        }
    }
}

/// How this process writes, and which schema it reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) codec: Codec,
    pub(super) schema: u32,
    /// Values of more bytes are compressed.
    pub(super) compress_above: Option<usize>,
}

/// What a frame has beside its value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct About {
    pub(super) stamp: u64,
    pub(super) tags: Vec<Arc<str>>,
    pub(super) etag: Option<Arc<str>>,
    pub(super) load_time: Duration,
}

/// Why a value has no frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritable {
    #[error("its tags or its entity tag are too long or too many")]
    Tags,
    #[error("it is larger than Redis takes")]
    Length,
    #[error(transparent)]
    Postcard(#[from] postcard::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Compression(#[from] std::io::Error),
}

/// Why a frame has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is of another schema, codec or layout.
    Other,
    /// It is not what was written.
    Corrupt,
}

impl Format {
    pub(super) fn write<V: Serialize>(
        &self,
        value: &V,
        about: &About,
    ) -> Result<Vec<u8>, Unwritable> {
        let encoded = match self.codec {
            Codec::Postcard => postcard::to_stdvec(value)?,
            Codec::Json => serde_json::to_vec(value)?,
        };
        if encoded.len() > LONGEST / 2 {
            return Err(Unwritable::Length);
        }
        let compressed = match self.compress_above {
            Some(above) if encoded.len() > above => Some(zstd::bulk::compress(
                &encoded,
                zstd::DEFAULT_COMPRESSION_LEVEL,
            )?)
            .filter(|compressed| compressed.len() < encoded.len()),
            _ => None,
        };
        let mut flags = 0;
        if compressed.is_some() {
            flags |= COMPRESSED;
        }
        if about.etag.is_some() {
            flags |= HAS_ETAG;
        }
        let payload = compressed.as_ref().unwrap_or(&encoded);

        let mut frame = Vec::with_capacity(payload.len() + 64);
        frame.extend(about.stamp.to_be_bytes());
        frame.extend(short(about.tags.len())?);
        for tag in &about.tags {
            text(&mut frame, tag)?;
        }
        let head = frame.len();
        frame.extend([0; 4]);
        frame.extend(MAGIC);
        frame.extend([self.codec.byte(), flags]);
        frame.extend(self.schema.to_be_bytes());
        let micros = u64::try_from(about.load_time.as_micros()).unwrap_or(u64::MAX);
        frame.extend(micros.to_be_bytes());
        if compressed.is_some() {
            // Not above `LONGEST`.
            frame.extend((encoded.len() as u32).to_be_bytes());
        }
        if let Some(etag) = &about.etag {
            text(&mut frame, etag)?;
        }
        frame.extend_from_slice(payload);
        let sum = checksum(&frame, head);
        frame[head..head + 4].copy_from_slice(&sum.to_be_bytes());
        Ok(frame)
    }

    pub(super) fn read<V: DeserializeOwned>(&self, frame: &[u8]) -> Result<(V, About), Unread> {
        let mut rest = Bytes(frame);
        let stamp = rest.u64()?;
        let tags = rest.u16()?;
        let tags: Result<Vec<Arc<str>>, Unread> = (0..tags).map(|_| rest.text()).collect();
        let tags = tags?;
        let head = frame.len() - rest.0.len();
        let sum = rest.u32()?;
        let magic = rest.take(MAGIC.len())?;
        if sum != checksum(frame, head) {
            return Err(Unread::Corrupt);
        }
        let [codec, flags] = rest.array()?;
        let schema = rest.u32()?;
        let codec = Codec::of(codec).filter(|_| {
            magic == MAGIC && schema == self.schema && flags & !(COMPRESSED | HAS_ETAG) == 0
        });
        let codec = codec.ok_or(Unread::Other)?;
        let load_time = Duration::from_micros(rest.u64()?);
        let length = (flags & COMPRESSED != 0)
            .then(|| rest.u32())
            .transpose()?
            .map(|length| length as usize);
        let etag = (flags & HAS_ETAG != 0).then(|| rest.text()).transpose()?;
        let encoded = match length {
            None => Cow::Borrowed(rest.0),
            Some(length) if length <= LONGEST => {
                let raw = zstd::bulk::decompress(rest.0, length).map_err(|_| Unread::Corrupt)?;
                Cow::Owned(raw)
            }
            Some(_) => return Err(Unread::Corrupt),
        };
        let value = decode(codec, &encoded)?;
        let about = About {
            stamp,
            tags,
            etag,
            load_time,
        };
        Ok((value, about))
    }
}

/// All bytes are to be used: else it was written from another type.
fn decode<V: DeserializeOwned>(codec: Codec, encoded: &[u8]) -> Result<V, Unread> {
    match codec {
        Codec::Postcard => match postcard::take_from_bytes(encoded) {
            Ok((value, [])) => Ok(value),
            _ => Err(Unread::Corrupt),
        },
        Codec::Json => serde_json::from_slice(encoded).map_err(|_| Unread::Corrupt),
    }
}

/// Of all but the four bytes from `at` on.
fn checksum(frame: &[u8], at: usize) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&frame[..at]);
    sum.update(&frame[at + 4..]);
    sum.finalize()
}

fn short(length: usize) -> Result<[u8; 2], Unwritable> {
    let length = u16::try_from(length).map_err(|_| Unwritable::Tags)?;
    Ok(length.to_be_bytes())
}

fn text(frame: &mut Vec<u8>, text: &str) -> Result<(), Unwritable> {
    frame.extend(short(text.len())?);
    frame.extend_from_slice(text.as_bytes());
    Ok(())
}

/// What is still to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Unread> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unread::Corrupt)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unread> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Unread::Corrupt)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, Unread> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Unread> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Unread> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Result<Arc<str>, Unread> {
        let length = self.u16()?;
        let text = std::str::from_utf8(self.take(length.into())?);
        text.map(Arc::from).map_err(|_| Unread::Corrupt)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMAT: Format = Format {
        codec: Codec::Postcard,
        schema: 3,
        compress_above: None,
    };

    fn about() -> About {
        About {
            stamp: 7,
            tags: vec!["org:7".into(), "".into()],
            etag: Some("\"x\"".into()),
            load_time: Duration::from_micros(12_345),
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            value in proptest::collection::vec(any::<(u64, String)>(), 0..20),
            stamp: u64,
            tags in proptest::collection::vec(any::<String>(), 0..4),
            etag in proptest::option::of(any::<String>()),
            micros: u64,
            json: bool,
            compress_above in proptest::option::of(0_usize..100),
        ) {
            let about = About {
                stamp,
                tags: tags.into_iter().map(Arc::from).collect(),
                etag: etag.map(Arc::from),
                load_time: Duration::from_micros(micros),
            };
            let codec = if json { Codec::Json } else { Codec::Postcard };
            let format = Format { codec, compress_above, ..FORMAT };
            let frame = format.write(&value, &about).unwrap();
            // By whoever has the schema, however it writes.
            let read = FORMAT.read::<Vec<(u64, String)>>(&frame);
            prop_assert_eq!(read, Ok((value, about)));
        }

        #[test]
        fn other_bytes_are_no_value(bytes: Vec<u8>) {
            prop_assert!(FORMAT.read::<Vec<u8>>(&bytes).is_err());
        }
    }

    #[test]
    fn a_frame_with_any_byte_changed_or_missing_is_no_value() {
        for compress_above in [None, Some(0)] {
            let format = Format {
                compress_above,
                ..FORMAT
            };
            let value = "aaaa".repeat(40);
            let frame = format.write(&value, &about()).unwrap();
            assert!(format.read::<String>(&frame).is_ok());
            for i in 0..frame.len() {
                for bit in 0..8 {
                    let mut other = frame.clone();
                    other[i] ^= 1 << bit;
                    assert!(format.read::<String>(&other).is_err(), "{i} {bit}");
                }
                assert_eq!(format.read::<String>(&frame[..i]), Err(Unread::Corrupt));
            }
            let longer = [&frame[..], b"x"].concat();
            assert_eq!(format.read::<String>(&longer), Err(Unread::Corrupt));
        }
    }

    #[test]
    fn another_schema_is_another_value() {
        let frame = FORMAT.write(&1_u32, &about()).unwrap();
        for schema in [2, 4] {
            let other = Format { schema, ..FORMAT };
            assert_eq!(other.read::<u32>(&frame), Err(Unread::Other));
        }
    }

    #[test]
    fn a_value_of_another_type_is_not_taken_for_its_beginning() {
        let frame = FORMAT.write(&(1_u32, 2_u32), &about()).unwrap();
        assert_eq!(FORMAT.read::<u32>(&frame), Err(Unread::Corrupt));
    }

    #[test]
    fn large_values_are_compressed_where_that_makes_them_smaller() {
        let format = Format {
            compress_above: Some(1_024),
            ..FORMAT
        };
        let length = |value: &[u8]| format.write(&value, &About::default()).unwrap().len();
        assert!(length(&[7; 1_000]) > 1_000);
        assert!(length(&[7; 100_000]) < 200);
        let mut random = vec![0; 10_000];
        fastrand::Rng::with_seed(1).fill(&mut random);
        assert!((10_000..10_100).contains(&length(&random)));
    }

    #[test]
    fn tags_that_do_not_fit_are_an_error() {
        let about = About {
            tags: vec!["x".repeat(70_000).into()],
            ..About::default()
        };
        let error = FORMAT.write(&1_u8, &about).unwrap_err();
        assert!(matches!(error, Unwritable::Tags), "{error}");
    }
}
