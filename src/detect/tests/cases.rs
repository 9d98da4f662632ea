//! Cases that other scanners miss or mistake, one group per test.

use super::*;

/// Masks and says whether `secret` is gone.
#[track_caller]
fn gone(text: &str, secret: &str) {
    assert!(text.contains(secret), "the case is wrong: {text}");
    let masked = mask(text);
    assert!(!masked.contains(secret), "{text}\n-> {masked}");
}

/// Masks and expects exactly this.
#[track_caller]
fn becomes(text: &str, expected: &str) {
    assert_eq!(mask(text), expected, "from {text}");
}

#[track_caller]
fn untouched(text: &str) {
    becomes(text, text);
}

/// The text of an attribute with its key.
#[track_caller]
fn keyed(key: &str, text: &str, expected: &str) {
    let (masked, _) = replace::mask_keyed(Engine::builtin(), text.as_bytes(), key.as_bytes());
    assert_eq!(String::from_utf8(masked).unwrap(), expected, "{key} = {text}");
}

fn github() -> String {
    tokens(5).into_iter().find(|(id, _)| id == "github-pat").unwrap().1
}

#[test]
fn json_inside_json_strings_to_depth_four() {
    let token = github();
    let mut text = serde_json::json!({ "api_key": token, "password": "hunter2", "n": 1 }).to_string();
    for depth in 0..=4 {
        let masked = mask(&text);
        assert!(!masked.contains(&token) && !masked.contains("hunter2"), "depth {depth}: {masked}");
        let mut inner: serde_json::Value = serde_json::from_str(&masked).unwrap();
        for _ in 0..depth {
            inner = serde_json::from_str(inner["arguments"].as_str().unwrap()).unwrap();
        }
        assert_eq!(
            inner,
            serde_json::json!({ "api_key": "[MASKED:github-pat]", "password": "[MASKED:password]", "n": 1 })
        );
        text = serde_json::json!({ "role": "assistant", "arguments": text }).to_string();
    }
}

#[test]
fn values_of_all_json_types_under_secret_names() {
    becomes(r#"{"password":12345678,"n":1}"#, r#"{"password":"[MASKED:password]","n":1}"#);
    becomes(r#"{"a":"{\"password\":12345678}"}"#, r#"{"a":"{\"password\":\"[MASKED:password]\"}"}"#);
    untouched(r#"{"password":null,"secret":false,"token":{"type":"string"},"api_key":[]}"#);
    becomes(r#"{"card":4111111111111111}"#, r#"{"card":"[MASKED:payment-card]"}"#);
}

#[test]
fn environment_files_and_yaml() {
    becomes(
        "DB_HOST=db\nDB_PASSWORD=Falcon-3620\nexport PGPASSWORD='pa ss 1'\nPORT=5432\n",
        "DB_HOST=db\nDB_PASSWORD=[MASKED:password]\nexport PGPASSWORD='[MASKED:password]'\nPORT=5432\n",
    );
    becomes(
        "db:\n  user: app\n  password: hunter2\n  port: 5432\n",
        "db:\n  user: app\n  password: [MASKED:password]\n  port: 5432\n",
    );
    becomes("password = \"it's me\" # note", "password = \"[MASKED:password]\" # note");
    gone("A=1\\nDB_PASSWORD=Falcon3620\\nB=2", "Falcon3620");
    gone(
        "//registry.npmjs.org/:_authToken=2f8c1b7e-90aa-4c1d-8e2b-5d1f3a7c9e10",
        "2f8c1b7e-90aa-4c1d-8e2b-5d1f3a7c9e10",
    );
}

#[test]
fn headers_and_curl() {
    becomes(
        "GET / HTTP/1.1\r\nAuthorization: Bearer fakefake0123456789abcdef\r\nAccept: */*\r\n",
        "GET / HTTP/1.1\r\nAuthorization: Bearer [MASKED:authorization]\r\nAccept: */*\r\n",
    );
    becomes(
        r#"{"headers":{"Authorization":"Basic dXNlcjpmYWtlLXBhc3N3b3Jk","Accept":"text/html"}}"#,
        r#"{"headers":{"Authorization":"Basic [MASKED:authorization]","Accept":"text/html"}}"#,
    );
    untouched("Authorization: Basic authentication is not supported");
    untouched("Use the Authorization: Bearer <token> header");
    untouched("basic configuration0123 and token economy2024");
    gone("curl -u admin:Sup3rFake https://h.example", "Sup3rFake");
    gone("curl -H 'X-Api-Key: 9fK2mQx7Zt4Lw8Rb3Vn6' https://h.example", "9fK2mQx7Zt4Lw8Rb3Vn6");
    becomes("Cookie: sid=fake0123456789; theme=dark\r\nHost: h", "Cookie: [MASKED:cookie]\r\nHost: h");
    gone("[('Authorization', 'Bearer fakefake0123456789abcdef')]", "fakefake0123456789abcdef");
    gone("Authorization: token fake0123456789abcdef01234567", "fake0123456789abcdef01234567");
    gone(
        "Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024",
        "fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024",
    );
}

#[test]
fn urls_lose_only_the_password() {
    becomes(
        "postgres://app:s3cr3t-fake@db.internal:5432/app",
        "postgres://app:[MASKED:url-password]@db.internal:5432/app",
    );
    becomes("mongodb+srv://u:p%40ss%2Fword@c0.mongodb.net/x", "mongodb+srv://u:[MASKED:url-password]@c0.mongodb.net/x");
    // What may stand in a password but not in the local part of an address used to make the host a mail address.
    becomes("postgres://app:fake!pass9@db.internal/app", "postgres://app:[MASKED:url-password]@db.internal/app");
    becomes("https://shop.example/?mail=ann@post.example", "https://shop.example/?mail=[MASKED:email]");
    becomes("redis://:fakepass99@cache:6379/0", "redis://:[MASKED:url-password]@cache:6379/0");
    becomes(r#"{"dsn":"mysql://root:hunter2@h/db"}"#, r#"{"dsn":"mysql://root:[MASKED:url-password]@h/db"}"#);
    untouched("http://localhost:8080/a@b and https://h.example:443/x?y=a:b@c");
    untouched("postgres://app:${DB_PASSWORD}@db/app");
    untouched("https://user@host.example/path");
    gone("Server=db;Database=app;User Id=sa;Password=Fake-Pass.1;Encrypt=true", "Fake-Pass.1");
    becomes("Server=db;Password=Fake-Pass.1;Encrypt=true", "Server=db;Password=[MASKED:password];Encrypt=true");
    gone("jdbc:mysql://h/db?user=u&password=Fake-Pass.1&ssl=true", "Fake-Pass.1");
}

#[test]
fn private_keys_in_every_newline_form() {
    let body = [
        "MIIEvFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake",
        "ZmFrZWZha2VmYWtlZmFrZWZha2VmYWtlZmFrZWZha2VmYWtlZmFrZWZha2U=",
    ];
    for newline in ["\n", "\r\n", "\\n", "\\\\n", "\\\\\\\\n", "\\r\\n", " ", "%0A", "<br>", ""] {
        for label in [
            "PRIVATE KEY",
            "RSA PRIVATE KEY",
            "EC PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
            "PGP PRIVATE KEY BLOCK",
        ] {
            let begin = format!("-----BEGIN {label}-----");
            let end = format!("-----END {label}-----");
            let whole = [begin.as_str(), body[0], body[1], end.as_str()].join(newline);
            becomes(&format!("key: {whole} after"), "key: [MASKED:private-key] after");
            becomes(&format!("{{\"k\":\"{whole}\",\"n\":1}}"), "{\"k\":\"[MASKED:private-key]\",\"n\":1}");
            let cut = [begin.as_str(), body[0], &body[1][..20]].join(newline);
            becomes(&format!("x {cut}"), "x [MASKED:private-key]");
            becomes(&format!("{{\"k\":\"{cut}\",\"n\":1}}"), "{\"k\":\"[MASKED:private-key]\",\"n\":1}");
        }
    }
    let lines =
        "\"-----BEGIN PRIVATE KEY-----\\n\" +\n \"MIIEvFakeFakeFakeFakeFake\\n\" +\n \"-----END PRIVATE KEY-----\"";
    gone(lines, "MIIEvFakeFakeFakeFakeFake");
    untouched("-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkq\n-----END PUBLIC KEY-----");
    untouched("-----BEGIN CERTIFICATE-----\nMIIBIjANBgkq\n-----END CERTIFICATE-----");
}

#[test]
fn attribute_keys_name_the_whole_value() {
    keyed("db.password", "hunter2", "[MASKED:password]");
    keyed("db.password", "correct horse battery staple and more", "[MASKED:password]");
    keyed("http.request.header.x-api-key", "9fK2mQx7Zt4Lw8Rb3Vn6", "[MASKED:secret]");
    keyed("http.request.header.authorization", "Bearer fakefake0123456789abcdef", "Bearer [MASKED:authorization]");
    keyed("http.request.header.cookie", "sid=fake0123456789; a=b", "[MASKED:cookie]");
    keyed("gen_ai.usage.prompt_tokens", "1834", "1834");
    keyed("gen_ai.request.max_tokens", "4096", "4096");
    keyed("gen_ai.response.id", "chatcmpl-9fK2mQx7Zt4Lw8Rb3Vn6", "chatcmpl-9fK2mQx7Zt4Lw8Rb3Vn6");
    keyed("session.id", "f1138914-bf9c-4f75-bb7d-a3a04a47ee97", "f1138914-bf9c-4f75-bb7d-a3a04a47ee97");
    keyed("db.password", "[MASKED:password]", "[MASKED:password]");
}

#[test]
fn siblings_that_are_name_and_value() {
    gone(r#"{"name":"API_KEY","value":"9fK2mQx7Zt4Lw8Rb3Vn6"}"#, "9fK2mQx7Zt4Lw8Rb3Vn6");
    gone(r#"[{"name": "DB_PASSWORD", "value": "hunter2"}]"#, "hunter2");
    gone(r#"{"a":"{\"key\":\"DB_PASSWORD\",\"value\":\"hunter2\"}"}"#, "hunter2");
    gone("- name: x\n  env:\n  - {'name': 'DB_PASSWORD', 'value': 'hunter2'}", "hunter2");
    untouched(r#"{"name":"city","value":"Hamburg 9fK2mQx7Zt4Lw8Rb3Vn6"}"#);
    untouched(r#"{"type":"password","value":"hunter2"}"#);
}

#[test]
fn names_before_values_without_an_operator() {
    gone("System.setProperty(\"DB_PASSWORD\", \"Fake1pass\")", "Fake1pass");
    gone("<password>hunter2</password>", "hunter2");
    gone("<apiKey>\n  9fK2mQx7Zt4Lw8Rb3Vn6\n</apiKey>", "9fK2mQx7Zt4Lw8Rb3Vn6");
    gone("The DB password is Tr0ub4dor&3, use it", "Tr0ub4dor&3");
    gone("mysql --password Fake1pass -h db", "Fake1pass");
    gone("mysql --password=Fake1pass -h db", "Fake1pass");
    gone("the api key 9fK2mQx7Zt4Lw8Rb3Vn6 works", "9fK2mQx7Zt4Lw8Rb3Vn6");
    gone("{\"name\": \"x\", 'secret' => 'aB3dE5fG7hJ9kL1mN3pQ5rS7'}", "aB3dE5fG7hJ9kL1mN3pQ5rS7");
}

#[test]
fn names_and_placeholders_that_mean_no_secret() {
    for text in [
        "max_tokens: 4096, \"prompt_tokens\": 1834, total_tokens=99, tokenizer: cl100k_base",
        "\"token\": \"the\", \"tokens\": [\"a\", \"b\"]",
        "password: str = Field(...)",
        "def login(user: str, password: str) -> Token:",
        "password = os.environ[\"DB_PASSWORD\"]",
        "password=getpass.getpass()",
        "password: ${DB_PASSWORD}",
        "password: {{ vault_password }}",
        "password: <password>",
        "password=****",
        "password=xxxxxxxx",
        "\"password\": null, \"secret\": true",
        "const token = await getToken(user);",
        "token = self.lexer.next_token",
        "{'password': password, 'token': token}",
        "secretName: my-tls-certificate",
        "public_key: 9fK2mQx7Zt4Lw8Rb3Vn6",
        "key_id=9fK2mQx7Zt4Lw8Rb3Vn6",
        "primary key: customer_2024_main_v2",
        "csrf_token=9fK2mQx7Zt4Lw8Rb3Vn6aa",
        "monkey: banana123banana456",
        "password policy: strict",
        "Password: required",
        "Your password must be changed",
        "api_key: YOUR_API_KEY_HERE",
        "next_page_token: 9fK2mQx7Zt4Lw8Rb3Vn6aa",
        "Enter the password:\nthen press return",
        "author: ada-lovelace-1815",
    ] {
        untouched(text);
    }
}

#[test]
fn ids_hashes_and_numbers_that_look_like_secrets() {
    for text in [
        "tool_call_id: call_9fK2mQx7Zt4Lw8Rb3Vn6aBcD",
        "id msg_01XFDUDYJgAACzvnptvVoYEL toolu_01A09q90qw90lq917835lq9",
        "chatcmpl-9fK2mQx7Zt4Lw8Rb3Vn6aBcDeFg resp_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b",
        "trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7",
        "commit ef4d9c36e864024a05f3f4491f5cccc007d77b17",
        "sha256:28c1eb4142e73e6c5ea1d6d13e51668ac511cbc3f3dc2edcfb25efb622958948",
        "b09a6e36-57d9-41a7-9c02-c92a2e55bfe2",
        "\"integrity\": \"sha512-9fK2mQx7Zt4Lw8Rb3Vn6aBcDeFg9fK2mQx7Zt4Lw8Rb3Vn6aBcDeFg==\"",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        "[0.0123456789012345, -0.9876543210987654, 4.111111111111111e-05]",
        "time_unix_nano: 1763644479000000000",
        "pod app-7d9c5b6f4-x2x7k is ready, version 1.2.3-rc.4+build.5",
        "ISBN 978-3-16-148410-0, arXiv 2401.01234",
        "order ORD-6184194365 at 2026-11-20T13:14:39Z, 10.0.0.1:8080",
        "com.example.BarBazFactoryBeanConfiguration2Impl",
        "AKIAIOSFODNN7EXAMPLE",
        "git@github.com:owner/name.git and package@1.2.3 and icon@2x.png",
        "lodash@4.17.21, @scope/name, user@localhost",
    ] {
        untouched(text);
    }
}

#[test]
fn secrets_inside_fake_markers_are_masked() {
    let token = github();
    gone(&format!("[MASKED:{token}]"), &token);
    gone(&format!("[MASKED:nope {token}]"), &token);
    gone(&format!("password=[MASKED:{token}]"), &token);
    gone("password=[MASKED:hunter2]", "hunter2");
    gone(&format!("[MASKED:password]{token}"), &token);
    let (_, seen) = Engine::builtin().scan_text(b"a [MASKED:jwt] b [MASKED:nope] [MASKED:password]", b"");
    assert_eq!(seen.markers, 2);
}

#[test]
fn an_over_long_token_is_masked_to_its_end() {
    let token = format!("{}0123456789", github());
    becomes(&format!("x {token} y"), "x [MASKED:github-pat] y");
}

#[test]
fn personal_data_in_prose() {
    becomes(
        "Ada (ada.l@example.org, +1-202-555-0143) paid with 4111-1111-1111-1111, SSN 536-90-4399, IBAN DE89 3704 0044 0532 0130 00.",
        "Ada ([MASKED:email], [MASKED:phone]) paid with [MASKED:payment-card], SSN [MASKED:us-ssn], IBAN [MASKED:iban].",
    );
    becomes("x\\nada@example.org\\ny", "x\\n[MASKED:email]\\ny");
    gone("token ghp_short then 536-90-4399", "536-90-4399");
}

#[test]
fn floods_end_masked_or_clean_but_end() {
    for unit in [
        "eyJ",
        "key=",
        "password=",
        "\\\"",
        "%25",
        "@",
        "1",
        "a@b.",
        "a://b:c@",
        "-----BEGIN ",
        "Cookie: a=",
        "sk-",
        "[MASKED:",
    ] {
        let flood = unit.repeat(60_000 / unit.len());
        let (hits, seen) = Engine::builtin().scan_text(flood.as_bytes(), b"");
        if seen.unscanned > 0 {
            assert_eq!((hits.len(), hits[0].start, hits[0].len as usize), (1, 0, flood.len()), "{unit}");
            assert_eq!(Engine::builtin().rules()[hits[0].rule as usize].class, Class::Unscanned);
        }
    }
    let flood = "key=".repeat(1 << 18);
    let (_, seen) = Engine::builtin().scan_text(flood.as_bytes(), b"");
    assert_eq!(seen.unscanned, 1);
}

#[test]
fn debug_output_shows_no_text() {
    assert!(format!("{:?}", Engine::builtin()).len() < 40);
}

/// A client can write a marker; the rest of the value is judged without it.
#[test]
fn a_marker_does_not_save_what_stands_beside_it() {
    for text in [
        "password=hunter2xyz[MASKED:email]",
        "password=[MASKED:email]hunter2xyz",
        "https://u:hunter2xyz[MASKED:email]@h.example/",
        "Authorization: Bearer [MASKED:email]hunter2xyz0123456789",
        r#"{"password": "hunter2xyz [MASKED:email]"}"#,
        "curl -u admin:hunter2xyz[MASKED:email] https://h.example",
    ] {
        gone(text, "hunter2xyz");
    }
    let (masked, _) = replace::mask_keyed(Engine::builtin(), b"Tr0ub4dor[MASKED:email]", b"password");
    assert!(!masked.windows(9).any(|window| window == b"Tr0ub4dor"));
}
