//! Tests of the engine as a whole.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::catalog::{Catalog, RuleFile, RuleSpec};
use super::shape::{self, Sets};
use super::*;

const FILES: [&str; 6] = [
    include_str!("catalog/structural.toml"),
    include_str!("catalog/ai.toml"),
    include_str!("catalog/cloud.toml"),
    include_str!("catalog/devtools.toml"),
    include_str!("catalog/saas.toml"),
    include_str!("catalog/personal.toml"),
];

fn specs() -> Vec<RuleSpec> {
    FILES.iter().flat_map(|f| toml::from_str::<RuleFile>(f).unwrap().rules).collect()
}

/// A small generator of numbers (xorshift), so that every run sees the same tokens.
fn numbers(seed: u64) -> impl FnMut() -> u32 {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 24) as u32
    }
}

fn mask(text: &str) -> String {
    String::from_utf8(replace::mask_text(Engine::builtin(), text.as_bytes()).0).unwrap()
}

#[test]
fn the_builtin_catalog_compiles() {
    Catalog::builtin().unwrap();
    assert!(Engine::builtin().rules().len() >= 150);
}

#[test]
fn every_example_of_the_catalog_holds() {
    let engine = Engine::builtin();
    let mut sets = Sets::default();
    let mut wrong = Vec::new();
    for spec in specs() {
        let samples: Vec<String> = spec
            .shapes
            .iter()
            .enumerate()
            .map(|(i, s)| token(&spec, s, &mut sets, &mut numbers(i as u64 + 7)))
            .collect();
        let fill = |text: &str| {
            samples.iter().enumerate().fold(text.to_owned(), |t, (i, s)| t.replace(&format!("{{{i}}}"), s))
        };
        for (text, must) in
            spec.matches.iter().map(|t| (fill(t), true)).chain(spec.no_match.iter().map(|t| (fill(t), false)))
        {
            let (hits, _) = engine.scan_text(text.as_bytes(), b"");
            let by_rule = hits.iter().any(|h| engine.rules()[h.rule as usize].id == spec.id);
            if by_rule != must {
                let got: Vec<_> = hits.iter().map(|h| &engine.rules()[h.rule as usize].id).collect();
                wrong.push(format!("{}: must{} match `{text}`, got {got:?}", spec.id, if must { "" } else { " not" }));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{} wrong", wrong.join("\n"), wrong.len());
}

#[test]
fn only_the_secret_goes() {
    assert_eq!(mask("password: hunter2"), "password: [MASKED:password]");
}

/// A token of a shape; where a structure is checked, one that has it.
fn token(spec: &RuleSpec, shape: &str, sets: &mut Sets, next: &mut impl FnMut() -> u32) -> String {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut letters = |n: usize| (0..n).map(|_| char::from(b'a' + (next() % 26) as u8)).collect::<String>();
    if spec.id == "jwt" {
        let header = base64.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{}\"}}", letters(6)));
        let claims = base64.encode(format!("{{\"sub\":\"{}\"}}", letters(12)));
        let signature = base64.encode(letters(32));
        let jwt = format!("{header}.{claims}.{signature}");
        return if shape.starts_with("ZX") { base64.encode(jwt) } else { jwt };
    }
    let elements = shape::parse(shape, sets).unwrap();
    let mut token = shape::sample(&elements, sets, next);
    if spec.id.starts_with("github-") && token.len() == 40 || spec.id == "npm-token" {
        let crc = checks::base62_crc(&token[4..34]);
        token[34..].copy_from_slice(&crc);
    }
    String::from_utf8(token).unwrap()
}

/// A token of every anchored shape, with its rule's id.
fn tokens(seed: u64) -> Vec<(String, String)> {
    let mut sets = Sets::default();
    let mut next = numbers(seed);
    let mut out = Vec::new();
    for spec in specs().iter().filter(|s| s.context.is_empty()) {
        for shape in &spec.shapes {
            out.push((spec.id.clone(), token(spec, shape, &mut sets, &mut next)));
        }
    }
    out
}

/// Whether `text` still shows any 12 bytes of the token's random part in a row.
fn shows(text: &str, token: &str) -> bool {
    let body = &token.as_bytes()[token.len() / 2..];
    body.windows(body.len().min(12)).any(|w| memchr::memmem::find(text.as_bytes(), w).is_some())
}

/// Texts that put a token where people and programs put them.
const WRAPPERS: &[(&str, &str)] = &[
    ("plain", "My key is {} and it works."),
    ("end of sentence", "Use {}."),
    ("comma", "a {}, b"),
    ("bold", "**{}**"),
    ("code", "`{}`"),
    ("call", "f({},3)"),
    ("list", "[{}]"),
    ("xml", "<k>{}</k>"),
    ("query", "https://h.example/p?token={}&y=1"),
    ("encoded query", "redirect=https%3A%2F%2Fh%3Ftoken%3D{}%26x"),
    ("path", "GET /reset/{}/done"),
    ("glued", "x_{}"),
    ("glued by a dash", "prefix-{}"),
    ("dotenv", "A=1\nTOKEN={}\nB=2"),
    ("quoted dotenv", "export TOKEN=\"{}\"\n"),
    ("yaml", "spec:\n  token: {}\n  other: 1\n"),
    ("yaml list", "- {}\n- b"),
    ("json", "{\"token\":\"{}\"}"),
    ("json 2", "{\"a\":\"{\\\"token\\\":\\\"{}\\\"}\"}"),
    ("json 3", "{\"a\":\"{\\\"b\\\":\\\"{\\\\\\\"token\\\\\\\":\\\\\\\"{}\\\\\\\"}\\\"}\"}"),
    ("json 4", "x\\\\\\\\\\\\\\\"{}\\\\\\\\\\\\\\\"y"),
    ("after an escaped line break", "line\\n{}\\nnext"),
    ("after two escapes", "line\\\\n{}\\\\nnext"),
    ("after an escaped tab", "a\\t{}\\tb"),
    ("after a unicode escape", "a\\u003d{}\\u0026"),
    ("header", "X-Api-Key: {}\r\nAccept: */*\r\n"),
    ("bearer", "Authorization: Bearer {}\r\n"),
    ("curl", "curl -H 'Authorization: Bearer {}' https://h.example"),
    ("python repr", "{'token': '{}', 'n': 1}"),
    ("tuple", "('Authorization', '{}')"),
    ("arrow", "'token' => '{}',"),
    ("walrus", "token := \"{}\""),
    ("cjk", "密钥是{}。请保存"),
    ("emoji", "🔑{}🔑"),
    ("csv", "1,{},x"),
    ("tabs", "1\t{}\tx"),
    ("semicolon", "a={};b=2"),
    ("angle", "<{}>"),
    ("pipe", "|{}|"),
    ("at", "key@{}"),
    ("hash", "#{}"),
];

#[test]
fn tokens_are_found_in_every_wrapper() {
    let mut missed = Vec::new();
    let mut all = 0;
    for (id, token) in tokens(42) {
        for (name, wrapper) in WRAPPERS {
            all += 1;
            let text = wrapper.replace("{}", &token);
            if shows(&mask(&text), &token) {
                missed.push(format!("{id} in {name}: {text} -> {}", mask(&text)));
            }
        }
    }
    assert!(missed.is_empty(), "{} of {all} missed\n{}", missed.len(), missed[..missed.len().min(40)].join("\n"));
}

#[test]
fn a_token_that_the_end_of_the_text_cut_is_found() {
    for (prefix, body) in [
        ("ghp_", "Z7X6C5V4B3N2M3A2"),
        ("github_pat_11A", "Z7X6C5V4B3N2M3A2"),
        ("sk-ant-api03-", "Z7X6C5V4B3N2M3A2"),
        ("sk-proj-", "Z7X6C5V4B3N2M3A2"),
        ("xoxb-", "736251845127-1098"),
        ("glpat-", "Z7X6C5V4B3N2M3A2"),
        ("npm_", "Z7X6C5V4B3N2M3A2"),
        ("hf_", "Z7X6C5V4B3N2M3A2"),
        ("AKIA", "Z7X6C5V4B3N2M3A2"),
        ("dop_v1_", "3c7b1a5f9d2e8064"),
    ] {
        for n in [8, 12, 15] {
            let body = &body[..n];
            let text = format!("the key is {prefix}{body}");
            assert!(!mask(&text).contains(body), "{text} -> {}", mask(&text));
        }
    }
}

mod cases;

mod properties {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    /// Tokens of every shape, from sixteen seeds.
    static POOL: LazyLock<Vec<String>> = LazyLock::new(|| (1..=16).flat_map(tokens).map(|(_, token)| token).collect());

    /// Pieces of text that make trouble, to be put together at random.
    fn piece() -> impl Strategy<Value = String> {
        let token = any::<usize>().prop_map(|i| POOL[i % POOL.len()].clone());
        prop_oneof![
            4 => "[ -~]{0,24}",
            2 => "[a-zA-Z0-9_\\-./=:+ ]{0,40}",
            1 => "(\\\\){0,7}[\"'ntru0]{0,3}",
            1 => "[\\pL\\pN ]{0,12}",
            3 => token,
            3 => prop::sample::select(vec![
                "password", "password=", "\"password\":\"", "token: ", "Authorization: Bearer ", "Cookie: a=", "://u:", "@",
                "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "\\n", "\\\"", "\"", "eyJ", "4111 1111 1111 1111",
                "+1 202 555 0143", "DE89 3704 0044 0532 0130 00", "a@b.example", "[MASKED:password]", "[MASKED:jwt]",
                "[MASKED:nope]", "[MASKED:", "]", "=", ":", "{\"name\":\"API_KEY\",\"value\":\"", "536-90-4399", "%3D", "\n",
                "api_key = ", "'", "x-api-key: ", ", ", "the password is ", "basic ", "> ", "<token>", "-u ", "\u{200b}",
            ]).prop_map(str::to_owned),
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(piece(), 0..12).prop_map(|p| p.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hits_are_sorted_apart_and_inside_their_field(text in text(), key in "[a-z._]{0,20}") {
            let (hits, _) = Engine::builtin().scan_text(text.as_bytes(), key.as_bytes());
            let mut end = 0;
            for hit in hits {
                prop_assert!(hit.len > 0 && hit.start >= end);
                end = hit.start + hit.len;
                prop_assert!(end as usize <= text.len());
            }
        }

        #[test]
        fn masking_twice_changes_nothing(text in text(), key in prop::sample::select(vec!["", "db.password", "api_key", "x"])) {
            let engine = Engine::builtin();
            let (once, _) = replace::mask_keyed(engine, text.as_bytes(), key.as_bytes());
            let (twice, hits) = replace::mask_keyed(engine, &once, key.as_bytes());
            prop_assert!(once == twice, "{:?}\n{:?}\n{:?}", String::from_utf8_lossy(&once), String::from_utf8_lossy(&twice), hits);
        }

        #[test]
        fn a_planted_token_never_survives(before in text(), after in text(), which in any::<usize>()) {
            let token = &POOL[which % POOL.len()];
            prop_assume!(!shows(&before, token) && !shows(&after, token));
            let masked = mask(&format!("{before} {token} {after}"));
            prop_assert!(!shows(&masked, token), "{token} in {masked}");
        }

        #[test]
        fn any_bytes_in_any_fields_are_survived(data in proptest::collection::vec(any::<u8>(), 0..600), cuts in proptest::collection::vec(0u32..600, 0..12)) {
            let mut cuts: Vec<u32> = cuts.into_iter().map(|c| c.min(data.len() as u32)).collect();
            cuts.sort_unstable();
            let fields: Vec<Field> = cuts.chunks_exact(2).map(|c| Field { start: c[0], len: c[1] - c[0], key_start: 0, key_len: (data.len() as u32).min(9) }).collect();
            let mut hits = Vec::new();
            Engine::builtin().scan(&data, &fields, &mut hits);
            for hit in hits {
                prop_assert!(fields.iter().any(|f| f.start <= hit.start && hit.start + hit.len <= f.start + f.len));
            }
        }

        #[test]
        fn fields_see_nothing_of_each_other(a in text(), b in text(), gap in "[ -~]{0,9}") {
            let engine = Engine::builtin();
            let buffer = format!("{a}{gap}{b}");
            let field = |start: usize, len: usize| Field { start: start as u32, len: len as u32, key_start: 0, key_len: 0 };
            let mut both = Vec::new();
            engine.scan(buffer.as_bytes(), &[field(0, a.len()), field(a.len() + gap.len(), b.len())], &mut both);
            let shift = (a.len() + gap.len()) as u32;
            let mut apart = engine.scan_text(a.as_bytes(), b"").0;
            apart.extend(engine.scan_text(b.as_bytes(), b"").0.into_iter().map(|h| Hit { start: h.start + shift, ..h }));
            prop_assert_eq!(both, apart, "{:?}", buffer);
        }

        #[test]
        fn json_stays_json(words in proptest::collection::vec(text(), 1..5), keys in proptest::collection::vec(prop::sample::select(vec!["password", "api_key", "token", "content", "Authorization", "n"]), 5), depth in 0usize..4, number in any::<u64>()) {
            let mut value = serde_json::json!({ "list": words.clone() });
            for (word, key) in words.iter().zip(&keys) {
                value[*key] = word.clone().into();
            }
            value["password_2"] = number.into();
            value["card"] = 4111111111111111u64.into();
            let mut json = value.to_string();
            for _ in 0..depth {
                json = serde_json::json!({ "arguments": json, "password": "hunter2", "n": 1 }).to_string();
            }
            let mut masked = mask(&json);
            for level in 0..=depth {
                let parsed: Result<serde_json::Value, _> = serde_json::from_str(&masked);
                prop_assert!(parsed.is_ok(), "level {level}: {masked}\nfrom {json}");
                if level < depth {
                    // An inner document may have been masked whole.
                    match parsed.unwrap()["arguments"].as_str() {
                        Some(inner) if inner.starts_with('{') => masked = inner.to_owned(),
                        _ => break,
                    }
                }
            }
        }
    }
}
