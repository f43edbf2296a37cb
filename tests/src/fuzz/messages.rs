//! What is said inside the tunnel: stream headers, control messages, calls to the daemon.

use serde::{Serialize, de::DeserializeOwned};
use tcpmux_proto::{
    CloudMessage, DeviceMessage, MAX_ASSERTION, MAX_HEADER, MAX_OPEN_DEADLINE, StreamHeader,
    agent::{AgentReply, AgentRequest},
};

/// A header is read whole or not at all, at every cut; what is read is within its limits and survives its bytes.
pub(super) fn stream_header(bytes: &[u8]) {
    let announced = StreamHeader::length(bytes);
    if let Ok(Some(length)) = announced {
        assert!(length <= MAX_HEADER);
        for cut in [3, length.saturating_sub(1)].into_iter().filter(|cut| *cut < bytes.len().min(length)) {
            assert!(StreamHeader::decode(&bytes[..cut]).is_err(), "half a header is none");
        }
    }
    let whole = match announced {
        Ok(Some(length)) if length <= bytes.len() => &bytes[..length],
        _ => bytes,
    };
    let Ok(header) = StreamHeader::decode(whole) else { return };
    assert!(header.deadline <= MAX_OPEN_DEADLINE);
    assert!(header.assertion.as_ref().is_none_or(|assertion| assertion.len() <= MAX_ASSERTION));
    let again = header.encode().expect("what was read can be written");
    let twice = StreamHeader::decode(&again).expect("what we write can be read");
    assert_eq!(twice.encode().expect("it was written before"), again);
    assert_eq!(twice, header);
}

/// What either side understands of a message is what it would say itself.
pub(super) fn control(bytes: &[u8]) {
    settles::<DeviceMessage>(bytes);
    settles::<CloudMessage>(bytes);
}

/// The same for the calls to the daemon.
pub(super) fn agent(bytes: &[u8]) {
    settles::<AgentRequest>(bytes);
    settles::<AgentReply>(bytes);
}

/// Written and read again, a message stays as it is.
fn settles<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(message) = serde_json::from_slice::<T>(bytes) else { return };
    let text = serde_json::to_vec(&message).expect("a message is JSON");
    let again: T = serde_json::from_slice(&text).expect("what we say can be read");
    assert_eq!(serde_json::to_vec(&again).expect("a message is JSON"), text);
}
