//! Which proxy a request goes through: `proxy_url`, or the environment by the rules of Go's `ProxyFromEnvironment`,
//! which are the Collector's.

use crate::config::ConfigError;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri, uri::Authority};
use std::{fmt, net::IpAddr, sync::Arc};

/// A proxy, its credentials apart from its address.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::exporter) struct Proxy {
    pub(super) kind: Kind,
    /// Scheme, host and port.
    pub(super) uri: Uri,
    /// User and password.
    pub(super) user: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    Https,
    Socks5,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Reads `scheme://user:password@host:port`. A text without a scheme is an HTTP proxy, as in Go.
    ///
    /// # Errors
    /// A sentence that does not repeat the text: there may be a password in it.
    pub(in crate::exporter) fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "is not a proxy's URL; write http://host:port, https://host:port or socks5://host:port";
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (kind, scheme, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Kind::Http, "http", 80),
            "https" => (Kind::Https, "https", 443),
            "socks5" | "socks5h" => (Kind::Socks5, "http", 1080),
            _ => return Err(FORM),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let authority: Authority = address.parse().map_err(|_| FORM)?;
        if authority.host().is_empty() || authority.as_str().ends_with(':') {
            return Err(FORM);
        }
        let address = match authority.port_u16() {
            Some(_) => authority.to_string(),
            None if authority.port().is_some() => return Err(FORM),
            None => format!("{authority}:{port}"),
        };
        let user = match user {
            None => None,
            Some(user) => {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                Some((percent_decoded(name).ok_or(FORM)?, percent_decoded(password).ok_or(FORM)?))
            }
        };
        let uri = format!("{scheme}://{address}").parse().map_err(|_| FORM)?;
        Ok(Proxy { kind, uri, user })
    }

    /// `Proxy-Authorization`, where there are credentials and the proxy speaks HTTP.
    pub(in crate::exporter) fn basic(&self) -> Option<HeaderValue> {
        let (user, password) = self.user.as_ref().filter(|_| self.kind != Kind::Socks5)?;
        let mut value =
            HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Whether it is itself reached over TLS.
    pub(in crate::exporter) fn is_secure(&self) -> bool {
        self.kind == Kind::Https
    }

    /// Whether plain HTTP requests are handed to it, rather than sent through it.
    pub(in crate::exporter) fn forwards(&self) -> bool {
        self.kind != Kind::Socks5
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

/// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or the same in lower case.
#[derive(Clone, Default)]
pub struct ProxyEnvironment {
    http: Option<String>,
    https: Option<String>,
    no: NoProxy,
}

/// Values may hold passwords.
impl fmt::Debug for ProxyEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyEnvironment").field("no", &self.no).finish_non_exhaustive()
    }
}

impl ProxyEnvironment {
    /// That of this process.
    pub fn of_process() -> Self {
        Self::of(|name| std::env::var(name).ok())
    }

    /// One that is looked up elsewhere.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |upper: &str, lower: &str| {
            let set = |name| variable(name).filter(|value| !value.is_empty());
            set(upper).or_else(|| set(lower))
        };
        // In a CGI program this variable may be a request's `Proxy` header.
        let cgi = variable("REQUEST_METHOD").is_some_and(|method| !method.is_empty());
        ProxyEnvironment {
            http: either("HTTP_PROXY", "http_proxy").filter(|_| !cgi),
            https: either("HTTPS_PROXY", "https_proxy"),
            no: NoProxy::parse(&either("NO_PROXY", "no_proxy").unwrap_or_default()),
        }
    }

    /// The proxy for plain requests to this host, if any.
    pub(in crate::exporter) fn http(&self, host: &str, port: u16) -> Result<Option<Arc<Proxy>>, ConfigError> {
        self.find("HTTP_PROXY", self.http.as_deref(), host, port)
    }

    /// The proxy for requests over TLS, and for all of gRPC.
    pub(in crate::exporter) fn https(&self, host: &str, port: u16) -> Result<Option<Arc<Proxy>>, ConfigError> {
        self.find("HTTPS_PROXY", self.https.as_deref(), host, port)
    }

    fn find(&self, name: &str, value: Option<&str>, host: &str, port: u16) -> Result<Option<Arc<Proxy>>, ConfigError> {
        let Some(value) = value.filter(|_| self.no.allows_proxy(host, port)) else { return Ok(None) };
        match Proxy::parse(value) {
            Ok(proxy) => Ok(Some(Arc::new(proxy))),
            Err(what) => Err(ConfigError::new("endpoint", format!("the environment variable {name} {what}"))),
        }
    }
}

/// Who is reached without a proxy.
#[derive(Clone, Debug, Default, PartialEq)]
struct NoProxy {
    everyone: bool,
    networks: Vec<(IpAddr, u32)>,
    addresses: Vec<(IpAddr, Option<u16>)>,
    /// A domain with a dot in front, whether it is meant itself too, and a port.
    domains: Vec<(String, bool, Option<u16>)>,
}

impl NoProxy {
    fn parse(text: &str) -> Self {
        let mut no = NoProxy::default();
        for entry in text.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()) {
            if entry == "*" {
                return NoProxy { everyone: true, ..NoProxy::default() };
            }
            if let Some(network) = network(&entry) {
                no.networks.push(network);
                continue;
            }
            let (host, port) = host_and_port(&entry);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            if let Ok(address) = host.parse() {
                no.addresses.push((address, port));
            } else if let Some(domain) = host.strip_prefix("*.").or_else(|| host.strip_prefix('.')) {
                no.domains.push((format!(".{domain}"), false, port));
            } else if !host.is_empty() {
                no.domains.push((format!(".{host}"), true, port));
            }
        }
        no
    }

    fn allows_proxy(&self, host: &str, port: u16) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let here = |wanted: Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        if self.everyone || host == "localhost" {
            return false;
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return !address.is_loopback()
                && !self.addresses.iter().any(|&(exempt, port)| exempt == address && here(port))
                && !self.networks.iter().any(|&network| contains(network, address));
        }
        !self.domains.iter().any(|(domain, itself, port)| {
            here(*port) && (host.ends_with(domain.as_str()) || (*itself && host == domain[1..]))
        })
    }
}

fn network(entry: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = entry.split_once('/')?;
    let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u32>().ok()?);
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}

fn contains((network, bits): (IpAddr, u32), address: IpAddr) -> bool {
    let same = |a: u128, b: u128, width: u32| bits == 0 || (a ^ b) >> (width - bits) == 0;
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

/// `host:port`, where the port may be left out; the colons of a bare IPv6 address are none of a port.
fn host_and_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> ProxyEnvironment {
        ProxyEnvironment::of(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_proxy_is_a_url_and_its_credentials_are_kept_apart() {
        let proxy = Proxy::parse("http://user:p%40ss@proxy.test:3128/").unwrap();
        assert_eq!((proxy.kind, proxy.uri.to_string().as_str()), (Kind::Http, "http://proxy.test:3128/"));
        assert_eq!(proxy.user, Some(("user".into(), "p@ss".into())));
        assert_eq!(proxy.basic().unwrap(), "Basic dXNlcjpwQHNz");
        assert!(!format!("{proxy:?} {:?}", proxy.basic()).contains("p@ss"));
        let uri = |text: &str| Proxy::parse(text).unwrap().uri.to_string();
        assert_eq!(uri("proxy.test:8080"), "http://proxy.test:8080/", "http is the default");
        assert_eq!(uri("proxy.test"), "http://proxy.test:80/");
        assert_eq!(uri("https://proxy.test"), "https://proxy.test:443/");
        assert_eq!(uri("socks5://[::1]"), "http://[::1]:1080/");
        assert_eq!(Proxy::parse("socks5h://u:p@h").unwrap().basic(), None);
        for bad in ["", "ftp://h", "http://", "http://h:port", "http://h:99999", "http://user:hunter2@", "http://%zz@h"]
        {
            let error = Proxy::parse(bad).unwrap_err();
            assert!(!error.contains("hunter2"), "{bad}: {error}");
        }
    }

    #[test]
    fn each_scheme_has_its_variable_in_either_case() {
        let both = environment(&[("HTTP_PROXY", "http://a:1"), ("https_proxy", "b:2"), ("ALL_PROXY", "c:3")]);
        assert_eq!(both.http("x.test", 80).unwrap().unwrap().uri, "http://a:1");
        assert_eq!(both.https("x.test", 443).unwrap().unwrap().uri, "http://b:2");
        let upper = environment(&[("HTTP_PROXY", "http://a:1"), ("http_proxy", "http://b:2")]);
        assert_eq!(upper.http("x.test", 80).unwrap().unwrap().uri, "http://a:1");
        assert!(
            environment(&[("ALL_PROXY", "c:3")]).https("x.test", 443).unwrap().is_none(),
            "Go has no such variable"
        );
        let cgi = environment(&[("HTTP_PROXY", "http://a:1"), ("REQUEST_METHOD", "GET")]);
        assert!(cgi.http("x.test", 80).unwrap().is_none());
    }

    #[test]
    fn this_machine_is_never_behind_a_proxy() {
        let all = environment(&[("HTTP_PROXY", "a:1"), ("HTTPS_PROXY", "a:1")]);
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]", "::1"] {
            assert!(all.http(host, 80).unwrap().is_none(), "{host}");
            assert!(all.https(host, 443).unwrap().is_none(), "{host}");
        }
        assert!(all.http("localhost.test", 80).unwrap().is_some());
    }

    #[test]
    fn no_proxy_has_the_rules_of_go() {
        let proxied = |no: &str, host: &str, port: u16| {
            environment(&[("HTTP_PROXY", "a:1"), ("NO_PROXY", no)]).http(host, port).unwrap().is_some()
        };
        for (no, host, port) in [
            ("*", "x.test", 80),
            ("foo.test", "foo.test", 80),
            ("foo.test", "bar.FOO.test", 80),
            (".foo.test", "bar.foo.test", 80),
            ("*.foo.test", "bar.foo.test", 80),
            ("x, foo.test:8080 ", "foo.test", 8080),
            ("10.0.0.1", "10.0.0.1", 80),
            ("10.0.0.1:80", "10.0.0.1", 80),
            ("10.0.0.0/8", "10.9.9.9", 80),
            ("fd00::/8", "[fd12::1]", 80),
            ("[fd12::1]:80", "[fd12::1]", 80),
            ("0.0.0.0/0", "9.9.9.9", 80),
        ] {
            assert!(!proxied(no, host, port), "{no} exempts {host}:{port}");
        }
        for (no, host, port) in [
            ("", "x.test", 80),
            (".foo.test", "foo.test", 80),
            ("*.foo.test", "foo.test", 80),
            ("foo.test", "barfoo.test", 80),
            ("foo.test:8080", "foo.test", 80),
            ("10.0.0.1:81", "10.0.0.1", 80),
            ("10.0.0.0/8", "11.0.0.1", 80),
            ("10.0.0.0/99", "10.0.0.1", 80),
            ("fd00::/8", "10.0.0.1", 80),
        ] {
            assert!(proxied(no, host, port), "{no} does not exempt {host}:{port}");
        }
    }

    #[test]
    fn an_unusable_variable_is_an_error_that_names_it_and_not_its_value() {
        let bad = environment(&[("HTTPS_PROXY", "ftp://user:hunter2@x")]);
        let error = bad.https("x.test", 443).unwrap_err().to_string();
        assert!(error.starts_with("endpoint: the environment variable HTTPS_PROXY is not a proxy's URL"), "{error}");
        assert!(!format!("{error} {bad:?}").contains("hunter2"));
        assert!(bad.https("localhost", 443).unwrap().is_none(), "only where it is used");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_proxy_or_an_error(text in "(https?://|socks5://|)[/\\[\\]:@a-z0-9.%é -]{0,20}", no in "[*./:,a-f0-9\\[\\] ]{0,20}") {
            if let Ok(proxy) = Proxy::parse(&text) {
                proptest::prop_assert!(proxy.uri.port_u16().is_some() && !proxy.uri.to_string().contains('@'));
            }
            NoProxy::parse(&no).allows_proxy("x.test", 80);
        }
    }
}
