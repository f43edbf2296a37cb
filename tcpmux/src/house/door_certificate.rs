//! The doors' own certificate: issued by the internal CA, replaced before it ends, while serving.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use prov_server::{DoorCertificate, Provisioning};
use runtime::{Backoff, Clock, Tasks, tls::CertificateCell};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{
    config::{Config, split_host_port},
    data::Listening,
};

/// Every name by which the doors are called.
#[derive(Debug, Clone)]
pub(super) struct Names {
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Names {
    /// The hosts of the two public addresses, this machine's loopback names, and every device's host.
    pub(super) fn of(config: &Config, listening: &Listening, device_url: &str) -> Self {
        let public = url::Url::parse(&listening.public_url).ok();
        let public = public.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
        let device = split_host_port(device_url).map(|(host, _)| host).unwrap_or_default();
        let mut dns = BTreeSet::from(["localhost".to_owned()]);
        let mut addresses =
            BTreeSet::from([IpAddr::from([127, 0, 0, 1]), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)]);
        for host in [public.trim_start_matches('[').trim_end_matches(']'), device] {
            match host.parse() {
                Ok(address) => {
                    addresses.insert(address);
                }
                Err(_) if !host.is_empty() => {
                    dns.insert(host.to_ascii_lowercase());
                }
                Err(_) => {}
            }
        }
        if !config.device_domain.is_empty() {
            dns.insert(format!("*.{}", config.device_domain));
        }
        Self { dns: dns.into_iter().collect(), addresses: addresses.into_iter().collect() }
    }
}

/// Has one issued now, and a new one at two thirds of its life, again and again.
pub(super) async fn keep(
    provisioning: Arc<Provisioning>,
    names: Names,
    clock: Clock,
    tasks: &Tasks,
) -> anyhow::Result<Arc<CertificateCell>> {
    let first = provisioning.issue_door_certificate(&names.dns, &names.addresses).await?;
    let mut renew_at = renewal(&first, &clock);
    let (chain, key) = usable(&first)?;
    let cell = CertificateCell::new(chain, key)?;
    let kept = Arc::clone(&cell);
    tasks.spawn(async move {
        let mut backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(3600));
        loop {
            // In short steps: the wall clock may be set while this waits.
            tokio::time::sleep(LOOK_EVERY).await;
            if clock.now() < renew_at {
                continue;
            }
            match provisioning.issue_door_certificate(&names.dns, &names.addresses).await {
                Ok(next) => {
                    let at = renewal(&next, &clock);
                    let replaced = usable(&next)
                        .and_then(|(chain, key)| kept.replace(chain, key).map_err(anyhow::Error::from));
                    match replaced {
                        Ok(()) => {
                            renew_at = at;
                            backoff.reset();
                            tracing::info!("the doors' certificate was renewed");
                        }
                        Err(error) => tracing::error!(%error, "the doors' new certificate cannot be used"),
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the doors' certificate could not be renewed; trying again");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    });
    Ok(cell)
}

/// Chain and key as TLS wants them.
fn usable(
    certificate: &DoorCertificate,
) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = certificate.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::try_from(certificate.key.expose().clone()).map_err(anyhow::Error::msg)?;
    Ok((chain, key))
}

fn renewal(certificate: &DoorCertificate, clock: &Clock) -> model::Timestamp {
    let now = clock.now();
    now.plus(certificate.not_after.since(now) * 2 / 3)
}

const LOOK_EVERY: Duration = Duration::from_secs(30);
