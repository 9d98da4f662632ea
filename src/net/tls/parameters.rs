//! Versions, cipher suites and curves: Go's names for what rustls has.

use crate::config::ConfigError;
use rustls::{
    CipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup, ring},
    version::{TLS12, TLS13},
};
use std::sync::Arc;

/// Suites of Go's safe list that rustls leaves out: they have no authenticated encryption.
const NOT_AUTHENTICATED: [&str; 4] = [
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
];

/// The Collector's curves and what they are here.
const CURVES: [(&str, Option<&dyn SupportedKxGroup>); 5] = [
    ("X25519", Some(ring::kx_group::X25519)),
    ("P256", Some(ring::kx_group::SECP256R1)),
    ("P384", Some(ring::kx_group::SECP384R1)),
    ("P521", None),
    ("X25519MLKEM768", None),
];

/// What a handshake may agree on.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
}

impl Parameters {
    pub(super) fn new(
        min_version: Option<&str>,
        max_version: Option<&str>,
        cipher_suites: &[String],
        curves: &[String],
    ) -> Result<Self, ConfigError> {
        let versions = versions(min_version, max_version)?;
        let mut provider = ring::default_provider();
        if !cipher_suites.is_empty() {
            let chosen = suites(cipher_suites)?;
            // As in Go, the list is about TLS 1.2; the suites of TLS 1.3 are all good and always on.
            provider.cipher_suites.retain(|suite| suite.tls13().is_some() || chosen.contains(&suite.suite()));
            if versions == [&TLS12] && !provider.cipher_suites.iter().any(|suite| suite.tls13().is_none()) {
                let text = "none of these suites belongs to TLS 1.2, the only version allowed";
                return Err(ConfigError::new("tls::cipher_suites", text));
            }
        }
        if !curves.is_empty() {
            provider.kx_groups = curves.iter().map(|name| curve(name)).collect::<Result<_, _>>()?;
        }
        Ok(Parameters { provider: Arc::new(provider), versions })
    }
}

fn versions(
    min_version: Option<&str>,
    max_version: Option<&str>,
) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
    let min = version("min_version", min_version, 2)?;
    let max = version("max_version", max_version, 3)?;
    match (min, max) {
        (2, 3) => Ok(vec![&TLS13, &TLS12]),
        (3, 3) => Ok(vec![&TLS13]),
        (2, 2) => Ok(vec![&TLS12]),
        _ => Err(ConfigError::new("tls", "invalid TLS configuration: min_version cannot be greater than max_version")),
    }
}

fn version(key: &str, text: Option<&str>, default: u8) -> Result<u8, ConfigError> {
    let error =
        |what: String| ConfigError::new("tls", format!("invalid TLS {key}: {what}")).with_hint("write 1.2 or 1.3");
    match text {
        None | Some("") => Ok(default),
        Some("1.2") => Ok(2),
        Some("1.3") => Ok(3),
        Some(old @ ("1.0" | "1.1")) => Err(error(format!("TLS {old} is not safe and not supported"))),
        Some(other) => Err(error(format!("unsupported TLS version: {other:?}"))),
    }
}

fn suites(names: &[String]) -> Result<Vec<CipherSuite>, ConfigError> {
    let known = ring::ALL_CIPHER_SUITES;
    let find = |name: &String| {
        let suite = known.iter().map(|suite| suite.suite()).find(|suite| go_name(*suite) == *name);
        suite.ok_or_else(|| {
            let what = if NOT_AUTHENTICATED.contains(&name.as_str()) {
                format!("TLS cipher suite without authenticated encryption is not supported: {name:?}")
            } else {
                format!("invalid TLS cipher suite: {name:?}")
            };
            let names: Vec<String> = known.iter().map(|suite| go_name(suite.suite())).collect();
            ConfigError::new("tls::cipher_suites", what).with_hint(format!("supported: {}", names.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

/// Go writes the suites of TLS 1.3 as the registry does, without the version.
fn go_name(suite: CipherSuite) -> String {
    suite.as_str().unwrap_or_default().replacen("TLS13_", "TLS_", 1)
}

fn curve(name: &str) -> Result<&'static dyn SupportedKxGroup, ConfigError> {
    let error =
        |what: String| ConfigError::new("tls::curve_preferences", what).with_hint("supported: X25519, P256, P384");
    match CURVES.iter().find(|(known, _)| *known == name) {
        Some((_, Some(group))) => Ok(*group),
        Some((_, None)) => Err(error(format!("curve type {name} is not supported by tracegate; remove it"))),
        None => Err(error(format!("invalid curve type: {name:?}"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn parameters(min: &str, max: &str, suites: &[&str], curves: &[&str]) -> Result<Parameters, String> {
        Parameters::new(Some(min), Some(max), &names(suites), &names(curves)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_versions_are_those_between() {
        for (min, max, wanted) in [
            ("", "", &[&TLS13, &TLS12][..]),
            ("1.2", "1.3", &[&TLS13, &TLS12]),
            ("1.3", "", &[&TLS13]),
            ("", "1.2", &[&TLS12]),
        ] {
            assert_eq!(parameters(min, max, &[], &[]).unwrap().versions, wanted, "{min} {max}");
        }
        for (min, max, text) in [
            ("asd", "", "tls: invalid TLS min_version: unsupported TLS version: \"asd\" (write 1.2 or 1.3)"),
            ("", "1.4", "tls: invalid TLS max_version: unsupported TLS version: \"1.4\" (write 1.2 or 1.3)"),
            ("1.1", "", "tls: invalid TLS min_version: TLS 1.1 is not safe and not supported (write 1.2 or 1.3)"),
            ("1.3", "1.2", "tls: invalid TLS configuration: min_version cannot be greater than max_version"),
        ] {
            assert_eq!(parameters(min, max, &[], &[]).unwrap_err(), text);
        }
    }

    #[test]
    fn suites_have_go_s_names_and_leave_tls_1_3_alone() {
        let one = parameters("", "", &["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"], &[]).unwrap();
        let suites: Vec<String> = one.provider.cipher_suites.iter().map(|suite| go_name(suite.suite())).collect();
        assert_eq!(
            suites,
            [
                "TLS_AES_256_GCM_SHA384",
                "TLS_AES_128_GCM_SHA256",
                "TLS_CHACHA20_POLY1305_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
            ]
        );
        let error = parameters("", "", &["TLS_RSA_WITH_RC4_128_SHA"], &[]).unwrap_err();
        assert!(
            error.starts_with(
                "tls::cipher_suites: invalid TLS cipher suite: \"TLS_RSA_WITH_RC4_128_SHA\" (supported: TLS_AES_256_"
            ),
            "{error}"
        );
        let error = parameters("", "", &[NOT_AUTHENTICATED[0]], &[]).unwrap_err();
        assert!(error.contains("without authenticated encryption is not supported"), "{error}");
        let error = parameters("", "1.2", &["TLS_AES_128_GCM_SHA256"], &[]).unwrap_err();
        assert!(error.contains("none of these suites belongs to TLS 1.2"), "{error}");
    }

    #[test]
    fn curves_come_in_the_order_they_are_preferred() {
        let two = parameters("", "", &[], &["P384", "X25519"]).unwrap();
        let groups: Vec<_> = two.provider.kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(groups, [rustls::NamedGroup::secp384r1, rustls::NamedGroup::X25519]);
        let error = parameters("", "", &[], &["P521"]).unwrap_err();
        assert!(error.starts_with("tls::curve_preferences: curve type P521 is not supported"), "{error}");
        let error = parameters("", "", &[], &["P-256"]).unwrap_err();
        assert!(
            error.starts_with("tls::curve_preferences: invalid curve type: \"P-256\" (supported: X25519"),
            "{error}"
        );
    }
}
