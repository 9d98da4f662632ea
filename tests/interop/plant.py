"""Fake secrets and personal data, well formed and made at run time from a seed.

Nothing in this file is a key: values are assembled from a prefix and random characters, with the checksum where the
format has one, so that a scanner which validates takes them for real ones.
"""

import base64
import json
import random
import re
import string
import zlib
from dataclasses import dataclass

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
BASE64URL = string.ascii_letters + string.digits + "-_"
BASE64 = string.ascii_letters + string.digits + "+/"
BASE32 = string.ascii_uppercase + "234567"
HEX = "0123456789abcdef"
LOWER = string.ascii_lowercase

SHORTEST_PIECE = 10


@dataclass(frozen=True)
class Planted:
    """One planted value.

    `text` is what goes into the telemetry, with the context that makes the value recognisable ("password=…").
    `needles` are the parts that must not be found behind the gateway. A long value gives one needle per half, so
    that a value masked only in part still counts as surviving.
    `token` tells that `text` is one run of characters allowed in a header, a key or a name.
    """

    kind: str
    text: str
    needles: tuple[str, ...]
    token: bool = False


class Planter:
    """Hands out planted values, one kind after the other, and remembers every one it handed out."""

    def __init__(self, seed: int | str):
        self.seed = seed
        self._random = random.Random(seed)
        self._next = {}
        self.planted: list[Planted] = []

    def any(self) -> Planted:
        """The next kind, in its context; may hold quotes, spaces and line breaks."""
        return self._take("any", list(KINDS))

    def token(self) -> Planted:
        """The next kind that is recognised without context and is one run of token characters."""
        return self._take("token", TOKEN_KINDS)

    def kind(self, kind: str) -> Planted:
        planted = KINDS[kind](self._random, kind)
        self.planted.append(planted)
        return planted

    def bare(self, kind: str, length: int = 18, before: str = "") -> Planted:
        """A value that only its key gives away, such as the value of the attribute `db.password`."""
        value = _password(self._random, length)
        planted = Planted(kind, before + value, (value,))
        self.planted.append(planted)
        return planted

    def every_kind(self) -> list[Planted]:
        return [self.kind(kind) for kind in KINDS]

    def _take(self, turn: str, kinds: list[str]) -> Planted:
        index = self._next.get(turn, 0)
        self._next[turn] = index + 1
        return self.kind(kinds[index % len(kinds)])


def spellings(text: str) -> list[str]:
    """`text` as it stands in a string, in JSON, and in JSON inside JSON; with and without \\u escapes."""
    found = [text]
    for ascii_only in (True, False):
        once = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        found += [once, json.dumps(once, ensure_ascii=ascii_only)[1:-1]]
    return list(dict.fromkeys(found))


class Finder:
    """Finds every spelling of every given text in a string."""

    def __init__(self, texts):
        self._patterns = {}
        self._source = {spelling: text for text in texts for spelling in spellings(text)}

    def in_text(self, text: str) -> set[str]:
        """Those of the given texts that occur in `text`."""
        return {source for spelling, source in self._source.items() if spelling in text}

    def pattern(self, text: str) -> re.Pattern | None:
        """Matches what occurs in `text`, the longest first; none if nothing does."""
        # The same strings come again and again: keys, harmless values, resources.
        if text not in self._patterns:
            found = sorted((each for each in self._source if each in text), key=len, reverse=True)
            self._patterns[text] = re.compile("|".join(map(re.escape, found))) if found else None
        return self._patterns[text]

    def source(self, spelling: str) -> str:
        return self._source[spelling]


def _pick(rng: random.Random, alphabet: str, length: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(length))


def _password(rng: random.Random, length: int) -> str:
    """A password with every class of character, of those that need no escaping in a URL or in JSON."""
    core = _pick(rng, string.ascii_letters + string.digits, length - 4)
    return rng.choice(string.ascii_uppercase) + core + rng.choice("!_-.") + _pick(rng, string.digits, 2)


def _halves(body: str) -> tuple[str, ...]:
    if len(body) < 2 * SHORTEST_PIECE:
        return (body,)
    return (body[: len(body) // 2], body[len(body) // 2 :])


def _checksum(body: str, length: int = 6) -> str:
    """CRC-32 of `body` in base 62, padded with zeros, as GitHub and npm end their tokens."""
    number, digits = zlib.crc32(body.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits.rjust(length, "0")


def _luhn(digits: str) -> str:
    total = 0
    for index, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if index % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return digits + str(-total % 10)


def _b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _prefixed(prefix: str, alphabet: str, length: int, tail: str = ""):
    def make(rng, kind):
        body = _pick(rng, alphabet, length)
        return Planted(kind, prefix + body + tail, _halves(body), token=True)

    return make


def _checked(prefix: str):
    def make(rng, kind):
        body = _pick(rng, BASE62, 30)
        body += _checksum(body)
        return Planted(kind, prefix + body, _halves(body), token=True)

    return make


def _github_fine_grained(rng, kind):
    body = _pick(rng, BASE62, 22) + "_" + _pick(rng, BASE62, 59)
    return Planted(kind, "github" + "_pat_" + body, _halves(body), token=True)


def _openai_project(rng, kind):
    left, right = _pick(rng, BASE64URL, 74), _pick(rng, BASE64URL, 74)
    return Planted(kind, "sk-" + "proj-" + left + "T3Blbk" + "FJ" + right, _halves(left) + _halves(right), token=True)


def _openai_legacy(rng, kind):
    left, right = _pick(rng, BASE62, 20), _pick(rng, BASE62, 20)
    return Planted(kind, "sk-" + left + "T3Blbk" + "FJ" + right, (left, right), token=True)


def _aws_secret(rng, kind):
    body = _pick(rng, BASE64, 40)
    return Planted(kind, f"aws_secret_access_key = {body}", _halves(body))


def _slack_bot(rng, kind):
    body = _pick(rng, string.ascii_letters + string.digits, 24)
    text = "xox" + f"b-{_pick(rng, '123456789', 12)}-{_pick(rng, '123456789', 13)}-{body}"
    return Planted(kind, text, _halves(body), token=True)


def _slack_webhook(rng, kind):
    body = _pick(rng, BASE62, 24)
    path = f"T{_pick(rng, BASE32, 10)}/B{_pick(rng, BASE32, 10)}/{body}"
    return Planted(kind, "https://hooks." + "slack.com/services/" + path, _halves(body))


def _sendgrid(rng, kind):
    left, right = _pick(rng, BASE64URL, 22), _pick(rng, BASE64URL, 43)
    return Planted(kind, "SG" + f".{left}.{right}", _halves(left) + _halves(right), token=True)


def _telegram(rng, kind):
    body = "A" + _pick(rng, BASE64URL, 33)
    return Planted(kind, f"https://api.telegram.org/bot{rng.randint(10**9, 10**10 - 1)}:A{body}/getMe", _halves(body))


def _langsmith(rng, kind):
    left, right = _pick(rng, HEX, 32), _pick(rng, HEX, 10)
    return Planted(kind, "lsv2" + f"_pt_{left}_{right}", _halves(left), token=True)


def _jwt(rng, kind):
    header = _b64url(json.dumps({"alg": "HS256", "typ": "JWT"}, separators=(",", ":")).encode())
    claims = {"sub": f"user-{rng.randint(1000, 9999)}", "iat": rng.randint(17 * 10**8, 18 * 10**8), "scope": "admin"}
    payload = _b64url(json.dumps(claims, separators=(",", ":")).encode())
    signature = _b64url(rng.randbytes(32))
    return Planted(kind, f"{header}.{payload}.{signature}", (payload[8:], *_halves(signature)), token=True)


def _pem(rng, kind):
    body = base64.b64encode(b"\x30\x82\x04\xbd" + rng.randbytes(700)).decode()
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    label = "RSA PRIVATE" + " KEY"
    text = "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"])
    return Planted(kind, text, tuple(line for line in lines if len(line) >= SHORTEST_PIECE))


def _connection_url(scheme: str, host: str, user: str = "app"):
    def make(rng, kind):
        password = _password(rng, 16)
        return Planted(kind, f"{scheme}://{user}:{password}@{host}", (password,))

    return make


def _azure_storage(rng, kind):
    body = _pick(rng, BASE64, 86)
    text = f"DefaultEndpointsProtocol=https;AccountName=freight;AccountKey={body}==;EndpointSuffix=core.windows.net"
    return Planted(kind, text, _halves(body))


def _odbc(rng, kind):
    password = _password(rng, 14)
    return Planted(kind, f"Server=tcp:db.internal,1433;User ID=sa;Password={password};Encrypt=true", (password,))


def _bearer(rng, kind):
    body = _pick(rng, BASE62, 40)
    return Planted(kind, f"Authorization: Bearer {body}", _halves(body))


def _basic(rng, kind):
    credentials = base64.b64encode(f"svc-billing:{_password(rng, 20)}".encode()).decode()
    return Planted(kind, f"Authorization: Basic {credentials}", _halves(credentials.rstrip("=")[16:]))


def _api_key_header(rng, kind):
    body = _pick(rng, BASE62, 32)
    return Planted(kind, f"X-Api-Key: {body}", _halves(body))


def _assignment(left: str, right: str = "", length: int = 16):
    def make(rng, kind):
        password = _password(rng, length)
        return Planted(kind, left + password + right, (password,))

    return make


def _email(rng, kind):
    name = f"{_pick(rng, LOWER, 6)}.{_pick(rng, LOWER, 8)}"
    address = f"{name}@{_pick(rng, LOWER, 7)}-freight.com"
    return Planted(kind, address, (name, address))


def _card(prefix: str, length: int, groups: tuple[int, ...], separator: str):
    def make(rng, kind):
        digits = _luhn(prefix + _pick(rng, string.digits, length - len(prefix) - 1))
        parts, start = [], 0
        for size in groups:
            parts.append(digits[start : start + size])
            start += size
        text = separator.join(parts)
        return Planted(kind, text, tuple(dict.fromkeys([text, text[-(10 + 2 * len(separator)) :]])))

    return make


KINDS = {
    "github-pat": _checked("gh" + "p_"),
    "email": _email,
    "openai-project": _openai_project,
    "password-assignment": _assignment("password="),
    "anthropic": _prefixed("sk-" + "ant-api03-", BASE64URL, 93, "AA"),
    "jwt": _jwt,
    "postgres-url": _connection_url("postgresql", "db.internal:5432/orders?sslmode=require"),
    "aws-access-key-id": _prefixed("AK" + "IA", BASE32, 16),
    "card-visa": _card("4", 16, (16,), ""),
    "slack-bot": _slack_bot,
    "bearer-header": _bearer,
    "stripe-live": _prefixed("sk_" + "live_", BASE62, 99),
    "json-password": _assignment('{"user": "svc", "password": "', '"}'),
    "aws-secret": _aws_secret,
    "google-api-key": _prefixed("AI" + "za", BASE64URL, 35),
    "card-grouped": _card("53", 16, (4, 4, 4, 4), " "),
    "gitlab-pat": _prefixed("gl" + "pat-", BASE64URL, 20),
    "basic-header": _basic,
    "npm": _checked("np" + "m_"),
    "github-fine-grained": _github_fine_grained,
    "mongodb-url": _connection_url("mongodb+srv", "cluster0.internal/crm?retryWrites=true", "crm_rw"),
    "huggingface": _prefixed("hf" + "_", string.ascii_letters, 34),
    "pem": _pem,
    "openai-legacy": _openai_legacy,
    "env-password": _assignment("PGPASSWORD="),
    "sendgrid": _sendgrid,
    "card-amex": _card("37", 15, (4, 6, 5), "-"),
    "pypi": _prefixed("pyp" + "i-AgEIcHlwaS5vcmc", BASE64URL, 150),
    "groq": _prefixed("gs" + "k_", BASE62, 52),
    "yaml-password": _assignment("password: "),
    "databricks": _prefixed("dap" + "i", HEX, 32),
    "slack-webhook": _slack_webhook,
    "digitalocean": _prefixed("dop" + "_v1_", HEX, 64),
    "vault": _prefixed("hv" + "s.", BASE64URL, 95),
    "odbc-password": _odbc,
    "langsmith": _langsmith,
    "api-key-header": _api_key_header,
    "telegram": _telegram,
    "azure-storage": _azure_storage,
}

# Of the token kinds, those made only of characters that are legal in every place a token is planted in.
TOKEN_KINDS = [kind for kind, make in KINDS.items() if make(random.Random(0), kind).token]
