//! The addresses to which leadgate connects. LeadSquared is on the public internet, so a private address is an error of the
//! settings or an attack on DNS: the keys would be sent to another server. Checked whenever a name is resolved, since the
//! addresses of a name can change.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Ranges of IPv4 that are not on the public internet, or that are a service of a cloud's host.
const REFUSED_V4: [(Ipv4Addr, u32); 11] = [
    // "This network", with the unspecified address.
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Carrier-grade NAT, with the metadata service of Alibaba Cloud.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    // The host of an Azure machine.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    // Link-local, with the metadata services of most clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    // IETF protocols, with the metadata service of Oracle Cloud.
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Benchmarks of networks.
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    // Multicast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    // Reserved, with the broadcast address.
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Ranges of IPv6 that are not on the public internet. Ranges with an embedded IPv4 address are not among them.
const REFUSED_V6: [(Ipv6Addr, u32); 6] = [
    // Local NAT64.
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    // Teredo.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    // Unique local, with the metadata services of AWS and Google Cloud.
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    // Link-local.
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    // Site-local.
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    // Multicast.
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Whether leadgate connects to an address: a public one, or one of this machine.
pub(super) fn is_allowed(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_allowed_v4(ip),
        IpAddr::V6(ip) if ip.is_loopback() => true,
        IpAddr::V6(ip) => match embedded_v4(ip) {
            Some(ip) => is_allowed_v4(ip),
            None => !REFUSED_V6
                .iter()
                .any(|(network, bits)| ip.to_bits() >> (128 - bits) == network.to_bits() >> (128 - bits)),
        },
    }
}

fn is_allowed_v4(ip: Ipv4Addr) -> bool {
    !REFUSED_V4
        .iter()
        .any(|(network, bits)| ip.to_bits() >> (32 - bits) == network.to_bits() >> (32 - bits))
}

/// The IPv4 address that an IPv6 address leads to.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = ip.to_bits();
    let high = |count: u32| bits >> (128 - count);
    let v4 = |shift: u32| Some(Ipv4Addr::from_bits((bits >> shift) as u32));
    // IPv4-mapped, IPv4-compatible (with the unspecified address), IPv4-translated, and NAT64.
    if matches!(high(96), 0xffff | 0 | 0xffff_0000 | 0x0064_ff9b_0000_0000_0000_0000) {
        return v4(0);
    }
    // 6to4.
    if high(16) == 0x2002 {
        return v4(80);
    }
    None
}

/// The address in a URL, if its host is an address and not a name.
pub(super) fn of_url(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
        Host::Domain(_) => None,
    }
}

/// The host name has only addresses to which leadgate does not connect.
#[derive(Debug)]
pub(super) struct RefusedAddress(IpAddr);

impl fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host has the private address {}", self.0)
    }
}

impl std::error::Error for RefusedAddress {}

/// Looks the addresses of a host up.
type Lookup = dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync;

/// Resolves host names as the system does, without the addresses to which leadgate does not connect.
pub(super) struct Resolver {
    tenant: Arc<str>,
    lookup: Box<Lookup>,
    /// The refused address that was logged last.
    logged: Arc<Mutex<Option<IpAddr>>>,
}

impl Resolver {
    pub(super) fn new(tenant: &str) -> Self {
        Self::with(
            tenant,
            Box::new(|host| Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) })),
        )
    }

    fn with(tenant: &str, lookup: Box<Lookup>) -> Self {
        Self {
            tenant: tenant.into(),
            lookup,
            logged: Arc::default(),
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (tenant, logged) = (self.tenant.clone(), self.logged.clone());
        let found = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let (allowed, refused): (Vec<_>, Vec<_>) =
                found.await?.into_iter().partition(|address| is_allowed(address.ip()));
            let refused = refused.iter().map(SocketAddr::ip).min();
            let mut logged = logged.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(address) = refused
                && logged.replace(address) != Some(address)
            {
                tracing::warn!(
                    %tenant,
                    host = name.as_str(),
                    %address,
                    "private address of the upstream host refused; upstream.allow_private_addresses = true allows it"
                );
            }
            match refused {
                Some(address) if allowed.is_empty() => Err(RefusedAddress(address).into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::cause;
    use super::*;
    use crate::error::Cause;

    #[test]
    fn only_public_addresses_and_those_of_this_machine_are_allowed() {
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "::10.0.0.1",
            "64:ff9b::192.168.0.1",
            "64:ff9b:1::1",
            "2002:a00:1::",
            "2002:c0a8:1::1",
            "2001::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_allowed(refused.parse().unwrap()), "{refused}");
        }
        for allowed in [
            "127.0.0.1",
            "127.255.255.255",
            "::1",
            "::ffff:127.0.0.1",
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "168.63.129.15",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
        ] {
            assert!(is_allowed(allowed.parse().unwrap()), "{allowed}");
        }
    }

    #[test]
    fn each_form_of_an_address_in_a_url_is_found() {
        for url in [
            "https://10.0.0.1",
            "https://10.0.0.1.:8443",
            "https://167772161",
            "https://0xa000001",
            "https://012.0.0.1",
            "https://10.1",
            "https://[::ffff:10.0.0.1]",
            "https://[::ffff:a00:1]",
        ] {
            let ip = of_url(&url.parse().unwrap()).unwrap();
            assert!(!is_allowed(ip), "{url}: {ip}");
        }
        assert_eq!(of_url(&"https://api-in21.leadsquared.com".parse().unwrap()), None);
    }

    /// A client that resolves every name to the next of these addresses, and to the last one from then on.
    fn client(addresses: &[&str]) -> reqwest::Client {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let next = AtomicUsize::new(0);
        let lookup = Box::new(move |_| {
            let at = next.fetch_add(1, Ordering::Relaxed).min(addresses.len() - 1);
            let found = Ok(vec![SocketAddr::new(addresses[at], 0)]);
            Box::pin(std::future::ready(found)) as Pin<Box<dyn Future<Output = _> + Send>>
        });
        reqwest::Client::builder()
            .no_proxy()
            .dns_resolver(Resolver::with("acme", lookup))
            .build()
            .unwrap()
    }

    #[tokio::test]
    async fn a_name_that_changes_to_a_private_address_is_refused_before_anything_is_sent() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://crm.example:{}", listener.local_addr().unwrap().port());
        let client = client(&["127.0.0.1", "10.0.0.1"]);
        let respond = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            let response = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(response.as_bytes()).await.unwrap();
        };
        let (response, ()) = tokio::join!(client.get(&url).send(), respond);
        assert!(response.unwrap().status().is_success());
        let error = client.get(&url).send().await.unwrap_err();
        assert!(error.is_connect());
        assert_eq!(cause::of(&error, false), Cause::PrivateAddress);
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_resolved() {
        let resolver = Resolver::new("acme");
        let found = resolver.resolve("localhost".parse().unwrap()).await.unwrap();
        assert!(found.map(|address| address.ip()).all(|ip| ip.is_loopback()));
    }
}
