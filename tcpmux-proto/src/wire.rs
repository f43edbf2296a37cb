//! How values look in JSON messages.

use model::DisconnectCause;
use serde::{Deserialize, Deserializer};

/// Whole milliseconds.
pub(crate) mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        u64::deserialize(input).map(Duration::from_millis)
    }
}

/// Whole milliseconds, or nothing.
pub(crate) mod optional_milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Option<Duration>, out: S) -> Result<S::Ok, S::Error> {
        value.map(|v| u64::try_from(v.as_millis()).unwrap_or(u64::MAX)).serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(input)?.map(Duration::from_millis))
    }
}

/// 32 bytes as 64 hex digits, or nothing.
pub(crate) mod hex32 {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(value: &Option<[u8; 32]>, out: S) -> Result<S::Ok, S::Error> {
        value.map(|v| model::hex(&v)).serialize(out)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<[u8; 32]>, D::Error> {
        let Some(text) = Option::<String>::deserialize(input)? else { return Ok(None) };
        let bytes = model::unhex(&text).and_then(|b| b.try_into().ok());
        bytes.map(Some).ok_or_else(|| D::Error::custom("expected 64 hex digits"))
    }
}

/// A text that is not to be shown.
pub(crate) mod secret_text {
    use model::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Secret<String>, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(value.expose())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Secret<String>, D::Error> {
        String::deserialize(input).map(Secret::new)
    }
}

/// A cause that this version does not know is an ordinary close.
pub(crate) fn known_cause<'de, D: Deserializer<'de>>(input: D) -> Result<DisconnectCause, D::Error> {
    let text = serde_json::Value::deserialize(input)?;
    Ok(DisconnectCause::deserialize(text).unwrap_or(DisconnectCause::Closed))
}
