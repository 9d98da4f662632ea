//! Cross-origin requests from browsers (Fetch standard, "CORS protocol"), with the answers the Collector gives.
//!
//! A server without `allowed_origins` knows nothing of origins. With them, whatever asks gets its answer; it is the
//! browser that keeps a page from seeing it, or from sending what needs a preflight, unless the headers here allow it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};

/// What may be sent without being configured.
const ALLOWED_METHODS: [&str; 3] = ["GET", "POST", "HEAD"];

/// The headers that may be sent when none are configured.
const DEFAULT_HEADERS: [&str; 3] = ["accept", "content-type", "x-requested-with"];

/// What decides over the answer to a preflight, for caches on the way.
const PREFLIGHT_VARY: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

const ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const ANY: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Which pages may send requests, and what they may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins that may send requests; not empty.
    pub origins: Vec<Allowed>,
    /// Headers they may send, in small letters; `None` is any.
    pub headers: Option<Vec<String>>,
    /// The value of `Access-Control-Expose-Headers`: what they may see of an answer's headers.
    pub exposed: Option<HeaderValue>,
    /// Seconds for which browsers may keep the answer to a preflight; `None` leaves it to them.
    pub max_age: Option<u64>,
}

/// An entry of `allowed_origins`, in small letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// `*`
    Any,
    /// This one.
    Exactly(String),
    /// With anything, or nothing, in the place of its `*`.
    Between(String, String),
}

impl Allowed {
    /// As it is configured. Browsers write origins in small letters; configurations need not.
    pub fn new(origin: &str) -> Self {
        let origin = origin.to_ascii_lowercase();
        match origin.split_once('*') {
            _ if origin == "*" => Allowed::Any,
            Some((before, behind)) => Allowed::Between(before.to_owned(), behind.to_owned()),
            None => Allowed::Exactly(origin),
        }
    }

    fn matches(&self, origin: &str) -> bool {
        match self {
            Allowed::Any => true,
            Allowed::Exactly(allowed) => allowed == origin,
            Allowed::Between(before, behind) => {
                origin.len() >= before.len() + behind.len() && origin.starts_with(before) && origin.ends_with(behind)
            }
        }
    }
}

impl Cors {
    /// The headers that may be sent when `allowed_headers` names none.
    pub fn default_headers() -> Vec<String> {
        DEFAULT_HEADERS.map(str::to_owned).to_vec()
    }

    /// Whether a request only asks what another one may do. It is answered without being looked at further.
    pub(super) fn is_preflight(head: &Parts) -> bool {
        head.method == Method::OPTIONS
            && head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|method| !method.is_empty())
    }

    /// The headers of the answer to a preflight. Without any that allow something, the browser sends nothing more.
    pub(super) fn preflight(&self, asked: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        answer.insert(header::VARY, PREFLIGHT_VARY);
        let Some(allowed_origin) = self.allowed_origin(asked) else { return answer };
        let Some(method) = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD) else { return answer };
        let method_allowed = ALLOWED_METHODS.iter().any(|allowed| method == allowed) || method == "OPTIONS";
        let headers: Vec<&HeaderValue> = asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter().collect();
        if !method_allowed || !headers.iter().all(|list| self.allows_headers(list)) {
            return answer;
        }
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed_origin);
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        for list in headers.into_iter().filter(|list| !list.is_empty()) {
            answer.append(header::ACCESS_CONTROL_ALLOW_HEADERS, list.clone());
        }
        answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        if let Some(seconds) = self.max_age {
            answer.insert(header::ACCESS_CONTROL_MAX_AGE, seconds.into());
        }
        answer
    }

    /// Adds to the answer of a request what lets the page see it.
    pub(super) fn mark(&self, method: &Method, asked: &HeaderMap, answer: &mut HeaderMap) {
        answer.append(header::VARY, ORIGIN);
        let method_allowed = ALLOWED_METHODS.contains(&method.as_str()) || method == Method::OPTIONS;
        let Some(allowed_origin) = self.allowed_origin(asked).filter(|_| method_allowed) else { return };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed_origin);
        if let Some(exposed) = &self.exposed {
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
        answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
    }

    /// The value of `Access-Control-Allow-Origin`: the page's own origin, or `*` where any may.
    fn allowed_origin(&self, asked: &HeaderMap) -> Option<HeaderValue> {
        let origin = asked.get(header::ORIGIN).filter(|origin| !origin.is_empty())?;
        if self.origins.contains(&Allowed::Any) {
            return Some(ANY);
        }
        let text = origin.to_str().ok()?.to_ascii_lowercase();
        self.origins.iter().any(|allowed| allowed.matches(&text)).then(|| origin.clone())
    }

    /// Whether every header of a list may be sent.
    fn allows_headers(&self, list: &HeaderValue) -> bool {
        let Some(allowed) = &self.headers else { return true };
        let Ok(list) = list.to_str() else { return false };
        let named = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        named.into_iter().all(|name| allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)))
    }
}

/// The value of `Access-Control-Expose-Headers`.
pub(super) fn joined(names: &[HeaderName]) -> Option<HeaderValue> {
    let list = names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
    (!list.is_empty()).then(|| HeaderValue::try_from(list).ok()).flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Cors {
        Cors {
            origins: origins.iter().map(|origin| Allowed::new(origin)).collect(),
            headers: Some(Cors::default_headers()),
            exposed: None,
            max_age: None,
        }
    }

    fn asked(origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, "POST".parse().unwrap());
        headers
    }

    fn allows(cors: &Cors, origin: &str) -> bool {
        cors.preflight(&asked(origin)).contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
    }

    #[test]
    fn an_origin_matches_exactly_or_around_its_wildcard() {
        let some = cors(&["https://a.example", "http://*.B.example", "http://localhost:*"]);
        for (origin, expected) in [
            ("https://a.example", true),
            ("HTTPS://A.example", true),
            ("http://a.example", false),
            ("https://a.example.evil", false),
            ("http://x.b.example", true),
            ("http://x.y.b.example", true),
            ("http://.b.example", true),
            ("http://b.example", false),
            ("http://x.b.example.evil", false),
            ("http://localhost:3000", true),
            ("http://localhost", false),
            ("null", false),
        ] {
            assert_eq!(allows(&some, origin), expected, "{origin}");
        }
        assert!(!allows(&cors(&["http://aa*aa"]), "http://aaa"), "the two halves do not overlap");
        let any = cors(&["https://a.example", "*"]);
        assert_eq!(any.preflight(&asked("null"))[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    }

    #[test]
    fn methods_and_headers_beyond_the_allowed_get_no_permission() {
        let cors = cors(&["https://a.example"]);
        let with = |name: HeaderName, value: &str| {
            let mut headers = asked("https://a.example");
            headers.insert(name, value.parse().unwrap());
            let answer = cors.preflight(&headers);
            assert_eq!(answer[header::VARY], PREFLIGHT_VARY);
            answer.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
        };
        for (method, expected) in [("POST", true), ("GET", true), ("post", false), ("DELETE", false), ("OPTIONS", true)]
        {
            assert_eq!(with(header::ACCESS_CONTROL_REQUEST_METHOD, method), expected, "{method}");
        }
        for (headers, expected) in [
            ("content-type", true),
            ("accept, Content-Type,, x-requested-with", true),
            ("", true),
            ("content-type, authorization", false),
            ("x", false),
        ] {
            assert_eq!(with(header::ACCESS_CONTROL_REQUEST_HEADERS, headers), expected, "{headers}");
        }
    }
}
