//! The cookies a backend sets, sent back to it and to nobody else (RFC 6265). What load balancers need to find the same
//! backend again; kept in memory, for as long as the exporter lives.

use http::{HeaderMap, HeaderValue, Uri, header::SET_COOKIE, uri::Scheme};
use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// So many cookies are kept; the oldest goes first.
const MAX_COOKIES: usize = 50;

/// A longer cookie is not kept (RFC 6265 §6.1).
const MAX_BYTES: usize = 4096;

/// The cookies of one exporter.
#[derive(Default)]
pub(super) struct Jar(Mutex<Vec<Cookie>>);

/// Values are credentials.
impl fmt::Debug for Jar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jar").finish_non_exhaustive()
    }
}

struct Cookie {
    name: String,
    value: String,
    /// The host that set it. Cookies for a whole domain go back to the host that set them only.
    host: String,
    path: String,
    secure: bool,
    expires: Option<SystemTime>,
}

impl Jar {
    /// Keeps what an answer sets.
    pub(super) fn store(&self, uri: &Uri, headers: &HeaderMap, now: SystemTime) {
        for text in headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            let Some(cookie) = Cookie::parse(text, uri, now) else { continue };
            let mut jar = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            jar.retain(|old| !(old.name == cookie.name && old.host == cookie.host && old.path == cookie.path));
            if cookie.expires.is_some_and(|expires| expires <= now) {
                continue;
            }
            if jar.len() >= MAX_COOKIES {
                jar.remove(0);
            }
            jar.push(cookie);
        }
    }

    /// The `Cookie` header of a request, longest path first.
    pub(super) fn header(&self, uri: &Uri, now: SystemTime) -> Option<HeaderValue> {
        let host = uri.host()?.to_ascii_lowercase();
        let mut jar = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jar.retain(|cookie| cookie.expires.is_none_or(|expires| expires > now));
        let mut fitting: Vec<&Cookie> = jar
            .iter()
            .filter(|cookie| cookie.host == host && covers(&cookie.path, uri.path()))
            .filter(|cookie| !cookie.secure || uri.scheme() == Some(&Scheme::HTTPS))
            .collect();
        fitting.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<String> = fitting.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        let mut value = HeaderValue::try_from(pairs.join("; ")).ok().filter(|value| !value.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Cookie {
    fn parse(text: &str, uri: &Uri, now: SystemTime) -> Option<Cookie> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let host = uri.host()?.to_ascii_lowercase();
        let mut parts = text.split(';');
        let (name, value) = parts.next()?.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.contains(char::is_whitespace) {
            return None;
        }
        let mut cookie = Cookie {
            name: name.to_owned(),
            value: value.to_owned(),
            host,
            path: directory(uri.path()).to_owned(),
            secure: false,
            expires: None,
        };
        let mut max_age = None;
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "path" if value.starts_with('/') => cookie.path = value.to_owned(),
                "secure" => cookie.secure = true,
                "max-age" => max_age = value.parse::<i64>().ok(),
                "expires" => cookie.expires = httpdate::parse_http_date(value).ok().or(cookie.expires),
                // For others than this host: not for us to send.
                "domain" if !within(&cookie.host, value) => return None,
                _ => {}
            }
        }
        if let Some(seconds) = max_age {
            // Far futures are as good as none.
            let lasts = Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(10 * 365 * 86_400));
            cookie.expires = now.checked_add(lasts);
        }
        Some(cookie)
    }
}

/// Whether a host is the domain or in it.
fn within(host: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    domain.is_empty() || host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
}

/// The default path: that of the request up to its last slash.
fn directory(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}

fn covers(cookie: &str, path: &str) -> bool {
    path.strip_prefix(cookie).is_some_and(|rest| rest.is_empty() || cookie.ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn set(jar: &Jar, uri: &str, cookie: &str) {
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, cookie.parse().unwrap());
        jar.store(&uri.parse().unwrap(), &headers, at(0));
    }

    fn sent(jar: &Jar, uri: &str, seconds: u64) -> String {
        let header = jar.header(&uri.parse().unwrap(), at(seconds));
        header.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_cookie_goes_back_to_its_host_and_to_nobody_else() {
        let jar = Jar::default();
        set(&jar, "http://a.test:4318/v1/traces", "lb=one; Path=/; HttpOnly");
        assert_eq!(sent(&jar, "http://a.test/v1/logs", 0), "lb=one");
        for other in ["http://b.test/", "http://x.a.test/", "http://test/"] {
            assert_eq!(sent(&jar, other, 0), "", "{other}");
        }
        set(&jar, "http://a.test/", "lb=two; path=/");
        assert_eq!(sent(&jar, "http://a.test/", 0), "lb=two", "replaced");
        set(&jar, "http://x.co.test/", "wide=1; Domain=co.test; Path=/");
        assert_eq!(sent(&jar, "http://x.co.test/", 0), "wide=1");
        assert_eq!(sent(&jar, "http://y.co.test/", 0), "", "a whole domain's cookie stays with its host");
        set(&jar, "http://a.test/", "foreign=1; Domain=b.test");
        assert_eq!(sent(&jar, "http://b.test/", 0), "");
    }

    #[test]
    fn path_security_and_time_are_kept() {
        let jar = Jar::default();
        set(&jar, "http://a.test/v1/traces", "here=1");
        set(&jar, "http://a.test/v1/traces", "root=1; Path=/");
        assert_eq!(sent(&jar, "http://a.test/v1/traces", 0), "here=1; root=1", "longest path first");
        assert_eq!(sent(&jar, "http://a.test/v12", 0), "root=1");
        set(&jar, "https://s.test/", "safe=1; Secure");
        assert_eq!((sent(&jar, "http://s.test/", 0), sent(&jar, "https://s.test/", 0)), ("".into(), "safe=1".into()));
        set(&jar, "http://t.test/", "short=1; Max-Age=10; Expires=Thu, 01 Jan 2099 00:00:00 GMT");
        assert_eq!((sent(&jar, "http://t.test/", 9), sent(&jar, "http://t.test/", 10)), ("short=1".into(), "".into()));
        set(&jar, "http://t.test/", "gone=1");
        set(&jar, "http://t.test/", "gone=1; Max-Age=-1");
        set(&jar, "http://t.test/", "past=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(sent(&jar, "http://t.test/", 0), "short=1".replace("short=1", ""), "expired meanwhile");
    }

    #[test]
    fn junk_and_floods_are_bounded() {
        let jar = Jar::default();
        for junk in ["", "x", "=1", "a b=1", ";;;", "x\u{9}y=1"] {
            set(&jar, "http://a.test/", junk);
        }
        set(&jar, "http://a.test/", &format!("big={}", "x".repeat(MAX_BYTES)));
        assert_eq!(sent(&jar, "http://a.test/", 0), "");
        for i in 0..200 {
            set(&jar, "http://a.test/", &format!("c{i}=1; Max-Age={}", i64::MAX));
        }
        assert_eq!(sent(&jar, "http://a.test/", 0).split("; ").count(), MAX_COOKIES);
        set(&jar, "http://a.test/", "secret=hunter2");
        assert!(!format!("{jar:?}").contains("hunter2"));
    }
}
