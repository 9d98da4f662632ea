//! Credentials against what is configured, without a server around.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use serde_json::{Value, json};
use std::{fs, time::Instant};
use tempfile::TempDir;

fn bearer(config: Value) -> Result<Authenticator, ConfigError> {
    Authenticator::bearer("bearertokenauth/agents", &serde_json::from_value(config).unwrap())
}

fn basic(config: Value) -> Result<Authenticator, ConfigError> {
    Authenticator::basic(&serde_json::from_value(config).unwrap())
}

fn users(lines: &str) -> Result<Authenticator, ConfigError> {
    basic(json!({"htpasswd": {"inline": lines}}))
}

async fn asked(authenticator: &Authenticator, values: &[&[u8]]) -> Result<Arc<Principal>, Denied> {
    authenticator.server().unwrap().authenticate(values.iter().copied()).await
}

fn pair(user: &str, password: impl AsRef<[u8]>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode([user.as_bytes(), b":", password.as_ref()].concat()))
}

/// Waits until `wanted` comes out of `look`.
async fn until<T: PartialEq + std::fmt::Debug>(wanted: T, look: impl AsyncFn() -> T) {
    let begin = Instant::now();
    loop {
        let found = look().await;
        if found == wanted {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{found:?} and not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn one_of_the_tokens_lets_in_and_nothing_else_does() {
    let tokens = bearer(json!({"tokens": ["planted-one", "planted-two"]})).unwrap();
    assert_eq!(asked(&tokens, &[b"Bearer planted-one"]).await, Err(Denied::Token), "it was not started");
    tokens.start().unwrap();
    for good in [&b"Bearer planted-one"[..], b"bearer planted-two", b"BEARER  planted-one", b" Bearer planted-one "] {
        let principal = asked(&tokens, &[good]).await.unwrap();
        assert_eq!((&*principal.id, principal.method), ("bearertokenauth/agents", Method::Bearer));
    }
    let long = [b"Bearer ".to_vec(), vec![b'a'; 1 << 20]].concat();
    for bad in [
        &b"Bearer planted-on"[..],
        b"Bearer planted-onee",
        b"Bearer planted-one, Bearer planted-two",
        b"Bearer",
        b"Bearer ",
        b"Bearerplanted-one",
        b"planted-one",
        b"Basic planted-one",
        b"Bearer \xff\xfe",
        b"Bearer PLANTED-ONE",
        &long,
    ] {
        assert_eq!(asked(&tokens, &[bad]).await, Err(Denied::Token), "{}", bad.escape_ascii());
    }
    for missing in [vec![], vec![&b""[..]], vec![&b"  "[..]]] {
        assert_eq!(asked(&tokens, &missing).await, Err(Denied::Missing("Authorization".into())));
    }
    for several in [[&b"Bearer planted-one"[..], b"Bearer planted-one"], [b"", b"Bearer planted-one"]] {
        assert_eq!(asked(&tokens, &several).await, Err(Denied::Several));
    }
}

#[tokio::test]
async fn scheme_and_header_can_be_others() {
    let keys = bearer(json!({"scheme": "", "header": "X-Api-Key", "token": "planted"})).unwrap();
    keys.start().unwrap();
    let server = keys.server().unwrap();
    assert_eq!(
        (server.header().as_str(), server.challenge().to_str().unwrap()),
        ("x-api-key", "Bearer realm=\"tracegate\"")
    );
    assert!(asked(&keys, &[b"planted"]).await.is_ok());
    assert_eq!(asked(&keys, &[b"Bearer planted"]).await, Err(Denied::Token));
    assert_eq!(keys.client().unwrap().credential().unwrap(), "planted");

    let own = bearer(json!({"scheme": "Token of", "token": "planted"})).unwrap();
    own.start().unwrap();
    assert!(asked(&own, &[b"Token of planted"]).await.is_ok());
    assert_eq!(own.server().unwrap().challenge(), "Bearer realm=\"tracegate\"");
    let own = bearer(json!({"scheme": "Api-Key", "token": "planted"})).unwrap();
    assert_eq!(own.server().unwrap().challenge(), "Api-Key realm=\"tracegate\"");
}

#[test]
fn what_is_wrong_with_tokens_says_so_and_not_what_they_are() {
    let error = |config: Value| bearer(config).unwrap_err().to_string();
    assert_eq!(error(json!({})), "no bearer token provided (set token, tokens or filename)");
    assert_eq!(error(json!({"token": "", "tokens": []})), "no bearer token provided (set token, tokens or filename)");
    assert_eq!(
        error(json!({"token": "planted", "tokens": ["planted"]})),
        "either tokens or token should be provided, not both"
    );
    for both in [json!({"filename": "f", "token": "planted"}), json!({"filename": "f", "tokens": ["planted"]})] {
        assert!(error(both).starts_with("either a filename or tokens should be provided, not both ("));
    }
    assert_eq!(error(json!({"tokens": ["planted", ""]})), "tokens: holds an empty token");
    assert_eq!(error(json!({"token": " "})), "token: holds an empty token");
    assert_eq!(error(json!({"token": "planted\n"})), "token: holds a token with white space around it");
    assert_eq!(
        error(json!({"tokens": ["plan\nted"]})),
        "tokens: holds a token with characters that headers cannot carry"
    );
    assert_eq!(error(json!({"token": "planted", "header": "a b"})), "header: is not a valid header name");
    for header in ["Content-Type", "grpc-timeout", "token-bin", "Host"] {
        assert!(error(json!({"token": "planted", "header": header})).starts_with("header: is a header that HTTP"));
    }
    assert!(error(json!({"token": "planted", "scheme": "a\nb"})).starts_with("scheme: "));
}

#[tokio::test]
async fn g10_tokens_come_from_a_file_and_change_with_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("token");
    let tokens = bearer(json!({"filename": path})).unwrap();
    assert!(tokens.start().unwrap_err().to_string().starts_with("filename: cannot be read: "));
    fs::write(&path, "\n  \n").unwrap();
    assert_eq!(tokens.start().unwrap_err().to_string(), "filename: the file holds no token");
    fs::write(&path, "plan\u{7}ted").unwrap();
    assert!(tokens.start().unwrap_err().to_string().contains("characters that headers cannot carry"));
    fs::write(&path, b"\xff").unwrap();
    assert!(tokens.start().unwrap_err().to_string().contains("not UTF-8"));
    fs::write(&path, "planted-one\r\n\n planted-two \n").unwrap();
    tokens.start().unwrap();
    let client = tokens.client().unwrap();
    assert_eq!(client.credential().unwrap(), "Bearer planted-one");
    assert!(asked(&tokens, &[b"Bearer planted-two"]).await.is_ok());
    assert_eq!(asked(&tokens, &[b"Bearer "]).await, Err(Denied::Token), "an empty line is no token");

    fs::write(&path, "planted-three").unwrap();
    until(true, async || asked(&tokens, &[b"Bearer planted-three"]).await.is_ok()).await;
    assert_eq!(asked(&tokens, &[b"Bearer planted-one"]).await, Err(Denied::Token));
    assert_eq!(client.credential().unwrap(), "Bearer planted-three");

    // A file that is empty or gone locks nobody out.
    let Kind::Bearer(made) = &tokens.0 else { panic!("it has tokens") };
    fs::write(&path, "").unwrap();
    assert!(made.reload().is_err());
    fs::remove_file(&path).unwrap();
    assert!(made.reload().is_err());
    assert!(asked(&tokens, &[b"Bearer planted-three"]).await.is_ok());
}

#[tokio::test]
async fn a_file_may_come_later_where_that_is_said() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("token");
    let tokens = bearer(json!({"filename": path, "file_retry": {"enabled": true, "max_retries": 3}})).unwrap();
    tokens.start().unwrap();
    let client = tokens.client().unwrap();
    assert!(client.credential().is_none());
    assert_eq!(asked(&tokens, &[b"Bearer planted"]).await, Err(Denied::Token));
    fs::write(&path, "planted").unwrap();
    until(true, async || client.credential().is_some()).await;
    assert!(asked(&tokens, &[b"Bearer planted"]).await.is_ok());
}

#[tokio::test]
async fn users_show_their_password_whatever_its_hash() {
    let bcrypt = bcrypt::hash("planted-b", 4).unwrap();
    let known = users(&format!(
        "# users\n\nanna:{bcrypt}\nbert:{{SHA}}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\ncarl:planted-c:with-colon\nanna2:x\nanna2:planted-last"
    ));
    let known = known.unwrap();
    assert_eq!(asked(&known, &[pair("carl", "planted-c:with-colon").as_bytes()]).await, Err(Denied::Credentials));
    known.start().unwrap();
    for (user, password) in
        [("anna", "planted-b"), ("bert", "password"), ("carl", "planted-c:with-colon"), ("anna2", "planted-last")]
    {
        // The second time it is remembered.
        for _ in 0..2 {
            let principal = asked(&known, &[pair(user, password).as_bytes()]).await.unwrap();
            assert_eq!((&*principal.id, principal.kind), (user, PrincipalKind::Account));
            for wrong in [&b""[..], b"planted", &[0xff, 0xfe], b"planted-b\0", &[b'a'; 8000]] {
                assert_eq!(asked(&known, &[pair(user, wrong).as_bytes()]).await, Err(Denied::Credentials));
            }
        }
    }
    assert_eq!(asked(&known, &[pair("nobody", "planted-b").as_bytes()]).await, Err(Denied::Credentials));
    assert_eq!(asked(&known, &[pair("", "planted-b").as_bytes()]).await, Err(Denied::Credentials));
    assert_eq!(asked(&known, &[pair("anna2", "x").as_bytes()]).await, Err(Denied::Credentials), "the last line counts");
    let lower = pair("bert", "password").replace("Basic", "basic");
    assert!(asked(&known, &[lower.as_bytes()]).await.is_ok());
    for (value, denied) in [
        (&b""[..], Denied::NoBasic),
        (b"Bearer abc", Denied::Scheme),
        (b"Basic", Denied::Scheme),
        (b"Basic !!!", Denied::Format),
        (b"Basic YWJj", Denied::Format),
        (b"Basic \xff", Denied::Format),
        (&[b'a'; 1 << 20], Denied::Credentials),
    ] {
        assert_eq!(asked(&known, &[value]).await, Err(denied), "{}", value.escape_ascii());
    }
}

#[test]
fn what_is_wrong_with_users_says_the_line_and_not_what_it_is() {
    let error = |lines: &str| users(lines).unwrap_err().to_string();
    let start = "htpasswd::inline: line 2: ";
    for (line, says) in [
        ("planted", "is not user:password"),
        (":planted", "is not user:password"),
        ("anna:", "is not user:password"),
        ("anna:$apr1$planted", "has a hash of a kind that is not supported"),
        ("anna:$6$planted", "has a hash of a kind that is not supported"),
        ("anna:{SSHA}planted", "has a hash of a kind that is not supported"),
        ("anna:{SHA}planted", "is not the base64 of a SHA-1 digest"),
        ("anna:$2y$10$planted", "is not a bcrypt hash"),
        ("anna:$2y$31$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u", "has a bcrypt cost"),
    ] {
        let error = error(&format!("bert:x\n{line}"));
        assert!(error.starts_with(&format!("{start}{says}")) && !error.contains("planted"), "{error}");
    }
    let error = |config: Value| basic(config).unwrap_err().to_string();
    assert_eq!(error(json!({})), "no credential source provided (set htpasswd or client_auth)");
    assert_eq!(error(json!({"htpasswd": {}})), "htpasswd: no credential source provided (set file or inline)");
    assert_eq!(
        error(json!({"htpasswd": {"inline": "a:b"}, "client_auth": {"username": "a"}})),
        "only one of `htpasswd` or `client_auth` can be specified"
    );
    assert!(error(json!({"client_auth": {"password": "planted"}})).starts_with("client_auth: no credential source"));
    assert!(
        error(json!({"client_auth": {"username": "a:b"}})).starts_with("client_auth::username: invalid authorization")
    );
    let unread = serde_json::from_value::<BasicConfig>(json!({"client_auth": {"aws_secrets_manager": {}}}));
    assert!(unread.unwrap_err().to_string().contains("not supported"));
}

#[tokio::test]
async fn users_come_from_a_file_and_go_with_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("htpasswd");
    let known = basic(json!({"htpasswd": {"file": path, "inline": "bert:planted-inline"}})).unwrap();
    assert!(known.start().unwrap_err().to_string().starts_with("htpasswd::file: cannot be read: "));
    let hash = bcrypt::hash("planted-a", 4).unwrap();
    fs::write(&path, format!("anna:{hash}\nbert:planted-file\n")).unwrap();
    known.start().unwrap();
    let (anna, bert) = (pair("anna", "planted-a"), pair("bert", "planted-inline"));
    assert!(asked(&known, &[anna.as_bytes()]).await.is_ok());
    assert!(asked(&known, &[bert.as_bytes()]).await.is_ok(), "what is in place counts");
    fs::write(&path, "carl:planted-c").unwrap();
    until(true, async || asked(&known, &[pair("carl", "planted-c").as_bytes()]).await.is_ok()).await;
    assert_eq!(
        asked(&known, &[anna.as_bytes()]).await,
        Err(Denied::Credentials),
        "nothing is remembered of the file before"
    );
}

/// A flood of wrong passwords at once: bounded work, and whoever is known gets in meanwhile.
#[tokio::test]
async fn wrong_passwords_neither_pile_up_nor_lock_out() {
    let hash = bcrypt::hash("planted", 8).unwrap();
    let known = users(&format!("anna:{hash}")).unwrap();
    known.start().unwrap();
    let right = pair("anna", "planted");
    assert!(asked(&known, &[right.as_bytes()]).await.is_ok());
    let flood: Vec<_> = (0..600)
        .map(|i| {
            let known = known.clone();
            tokio::spawn(async move { asked(&known, &[pair("anna", format!("wrong-{i}")).as_bytes()]).await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(asked(&known, &[right.as_bytes()]).await.is_ok());
    let mut answers = Vec::new();
    for one in flood {
        answers.push(one.await.unwrap().unwrap_err());
    }
    let of = |denied: Denied| answers.iter().filter(|answer| **answer == denied).count();
    assert_eq!(of(Denied::Busy) + of(Denied::Credentials), 600);
    assert!(of(Denied::Busy) >= 300 && of(Denied::Credentials) >= 256, "{}", of(Denied::Busy));
}

#[tokio::test]
async fn a_login_is_sent_and_changes_with_its_files() {
    let login = basic(json!({"client_auth": {"username": "anna", "password": "planted"}})).unwrap();
    let client = login.client().unwrap();
    assert!(client.credential().is_none() && login.server().is_none());
    login.start().unwrap();
    assert_eq!(client.credential().unwrap().to_str().unwrap(), pair("anna", "planted"));
    assert!(!format!("{:?}", client.credential()).contains("Basic "));

    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let files = json!({"client_auth": {
        "username": "other", "username_file": at("user"), "password": "other", "password_file": at("password"),
    }});
    let login = basic(files).unwrap();
    assert!(login.start().unwrap_err().to_string().starts_with("client_auth::username_file: cannot be read"));
    fs::write(at("user"), "anna\n").unwrap();
    fs::write(at("password"), "\n").unwrap();
    assert_eq!(login.start().unwrap_err().to_string(), "client_auth::password_file: the file is empty");
    fs::write(at("password"), "planted-one\n").unwrap();
    login.start().unwrap();
    let client = login.client().unwrap();
    let sent = async || client.credential().unwrap().to_str().unwrap().to_owned();
    assert_eq!(sent().await, pair("anna", "planted-one"));
    fs::write(at("password"), "planted-two\n").unwrap();
    until(pair("anna", "planted-two"), sent).await;
}

#[test]
fn each_side_is_only_what_it_is() {
    let mut known = Authenticators::default();
    let reference = |id: &str| Reference { authenticator: id.parse().unwrap() };
    let mut insert = |id: &str, it| known.insert(id.parse().unwrap(), it);
    insert("basicauth/server", Some(users("a:b").unwrap()));
    insert("basicauth/client", Some(basic(json!({"client_auth": {"username": "a"}})).unwrap()));
    insert("bearertokenauth", Some(bearer(json!({"token": "planted"})).unwrap()));
    insert("health_check", None);
    let server = |id: &str| known.server(&reference(id)).map(|_| ()).map_err(|error| error.to_string());
    let client =
        |id: &str, protocol| known.client(&reference(id), protocol).map(|_| ()).map_err(|error| error.to_string());
    assert!(server("basicauth/server").is_ok() && server("bearertokenauth").is_ok());
    assert!(client("basicauth/client", "gRPC").is_ok() && client("bearertokenauth", "HTTP").is_ok());
    for id in ["basicauth/client", "health_check"] {
        assert_eq!(server(id).unwrap_err(), "auth: requested authenticator is not a server authenticator");
    }
    for id in ["basicauth/server", "health_check"] {
        assert_eq!(client(id, "gRPC").unwrap_err(), "auth: requested authenticator is not a gRPC client authenticator");
        assert_eq!(client(id, "HTTP").unwrap_err(), "auth: requested authenticator is not a HTTP client authenticator");
    }
    for error in [server("oidc/a").unwrap_err(), client("oidc/a", "HTTP").unwrap_err()] {
        assert!(
            error.starts_with("auth: failed to resolve authenticator \"oidc/a\": authenticator not found ("),
            "{error}"
        );
    }
}

#[test]
fn nothing_shows_a_credential() {
    let hash = bcrypt::hash("planted", 4).unwrap();
    for it in [
        bearer(json!({"tokens": ["planted-one"]})).unwrap(),
        users(&format!("anna:{hash}\nbert:planted-two")).unwrap(),
        basic(json!({"client_auth": {"username": "anna", "password": "planted"}})).unwrap(),
    ] {
        let shown = format!("{it:?} {:?} {:?}", it.server(), it.client());
        assert!(!shown.contains("planted") && !shown.contains("$2"), "{shown}");
    }
    let config: BearerConfig = serde_json::from_value(json!({"token": "planted", "tokens": ["planted"]})).unwrap();
    assert!(!format!("{config:?}").contains("planted"));
    let config = json!({"htpasswd": {"inline": "a:planted"}, "client_auth": {"password": "planted"}});
    assert!(!format!("{:?}", serde_json::from_value::<BasicConfig>(config).unwrap()).contains("planted"));
}
