//! What a bad network and bad peers do, and what they cannot do.

mod aborts;
mod black_hole;
mod canaries;
mod comeback;
mod endurance;
mod forger;
mod full_disk;
mod handshakes;
mod hostile_cloud;
mod hostile_devices;
mod impostors;
mod locked_store;
mod neighbour;
pub(crate) mod peer;
mod provider_outage;
mod registry_claims;
mod registry_outages;
mod secrets;
mod secrets_of_people;
mod signer_outage;
mod silent_sockets;
mod slow_readers;
mod stalled;
mod twins;
pub(crate) mod vitals;
