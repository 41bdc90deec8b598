"""Policy files: what they compile to, and every mistake with its place and remedy."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from policies.compile.load import load_policy
from policies.policy import OnExhausted, Payer, Policy
from policies.requirements import Tier
from pricing.budgets.caps import Unlimited
from pricing.clock import US_PER_S
from pricing.errors import FileProblem
from support.choosing import BASE, NOW_US, USD, load, write_policy

LOWERS = 'caps: [{{name: c, amount_usd: 1, window: 24h, scope: "{}", thresholds: {{lower_tier: 8%}}}}]\n'
HASH_A, HASH_B = "a" * 64, "b" * 64


def problems(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """The problems of one file, with its path taken off: `7: what is wrong; what to do`."""
    path = write_policy(tmp_path, text)
    with pytest.raises(FileProblem) as raised:
        load(path, **environ)
    return [problem.removeprefix(f"{path}:") for problem in raised.value.problems]


@pytest.fixture
def acme(tmp_path: Path) -> Policy:
    text = f"""\
{BASE}\
    first_byte_deadline_s: 30
    breaker: {{failures: 2}}
    on_exhausted: finish
timezone: Europe/Berlin
defaults:
  max_attempts: 2
  retry_budget: 10%
  breaker: {{window_s: 60}}
  reload_poll_s: 5
aliases: {{gpt: small, small: "chat:economy"}}
tenants:
  acme:
    classes: [chat]
    tags: [paying]
    keys:
      - {{id: acme-1, sha256: {HASH_A}, rights: [warmup], tags: [batch]}}
      - {{id: acme-2, sha256: {HASH_B}}}
    caps:
      - {{name: day, amount_usd: 5, window: 24h, thresholds: {{warn: 50%, lower_tier: 90%}}}}
      - name: month
        amount_usd: 0.5
        window: 1mo
        thresholds: {{warn: off}}
        raises: [{{amount_usd: 2, until: 2026-02-01}}, {{amount_usd: 3, until: 2026-02-01T00:00:00+00:00}}]
      - {{name: key, amount_usd: unlimited, window: 7d, scope: "key:acme-2"}}
caps:
  - {{name: t4, amount_usd: 1, window: 24h, scope: "pool:qwen3-4b-fp16-t4"}}
  - {{name: batch, amount_usd: 1, window: 24h, scope: "tag:batch"}}
endpoints:
  qwen3-4b-fp16-t4:
    url: https://${{HOST}}/t4/
    api_key: os.environ/POOL_KEY
    headers: {{Modal-Key: "${{POOL_KEY}}"}}
    always_on: 1
platform: {{url: "https://${{HOST}}/platform"}}
drained: [qwen3-4b-bf16-a10]
failed_attempts: {{timeout: tenant}}
"""
    return load(write_policy(tmp_path, text), HOST="pools.example", POOL_KEY="s3cret")


def test_classes_take_defaults_and_their_own_keys(acme: Policy) -> None:
    """A key of a class wins over `defaults:`, which wins over the built-in; parts of `breaker` too."""
    limits = acme.classes["chat"].limits
    assert (limits.first_byte_deadline_s, limits.max_attempts, limits.retry_budget) == (30, 2, 0.1)
    assert (limits.breaker.failures, limits.breaker.window_s, limits.breaker.half_open_after_s) == (2, 60, 15)
    assert (limits.on_exhausted, limits.max_total_s, acme.reload_poll_s) == (OnExhausted.FINISH, 600, 5)


def test_ladders_run_from_economy_up(acme: Policy) -> None:
    """Rungs carry tier, order and rate; the premium pool is the baseline of savings."""
    chat = acme.classes["chat"]
    assert [(rung.pool.name, rung.tier, rung.order) for rung in chat.ladder] == [
        ("qwen3-4b-fp16-t4", Tier.ECONOMY, 0),
        ("qwen3-4b-bf16-a10", Tier.PREMIUM, 1),
    ]
    assert (chat.premium_pool, chat.default_tier) == ("qwen3-4b-bf16-a10", Tier.STANDARD)
    assert chat.ladder[0].rate.gpu_nusd_per_h == 590_000_000
    assert chat.ladder[0].rate.book == acme.price_book == "modal-2026-10"
    assert set(acme.pools) == set(acme.rates) == set(acme.fits) == set(acme.boots_s)


def test_tenants_and_keys_are_found_by_hash(acme: Policy) -> None:
    """A key knows its tenant, rights and tags; the file holds nothing but its hash."""
    key = acme.keys[HASH_A]
    assert (key.id, key.tenant, key.rights, key.tags) == ("acme-1", "acme", frozenset({"warmup"}), ("batch",))
    assert acme.tenants["acme"].classes == frozenset({"chat"})


def test_caps_have_amount_window_scope_and_thresholds(acme: Policy) -> None:
    """Amounts are nano-dollars, thresholds parts per thousand, raises instants in the file's zone."""
    caps = {cap.label: cap for cap in acme.caps.caps}
    assert set(caps) == {"acme/day", "acme/month", "key:acme-2/key", "pool:qwen3-4b-fp16-t4/t4", "tag:batch/batch"}
    day, month = caps["acme/day"], caps["acme/month"]
    assert (day.amount_nusd, day.warn_permille, day.lower_tier_permille) == (5 * USD, 500, 900)
    assert (month.amount_nusd, month.warn_permille, month.window.rolling_s) == (USD // 2, None, None)
    midnight_utc_us = 1_769_904_000 * US_PER_S  # 2026-02-01 00:00 UTC; Berlin is an hour ahead
    assert [one.until_us for one in month.raises] == [midnight_utc_us - 3_600 * US_PER_S, midnight_utc_us]
    assert caps["key:acme-2/key"].amount_nusd is Unlimited.UNLIMITED
    assert acme.caps.timezone.key == "Europe/Berlin"


def test_endpoints_take_secrets_from_the_environment(acme: Policy) -> None:
    """Both spellings of a variable are filled in, and no secret shows when the object is printed."""
    endpoint = acme.endpoints["qwen3-4b-fp16-t4"]
    assert (endpoint.url, endpoint.api_key) == ("https://pools.example/t4", "s3cret")
    assert (endpoint.headers, endpoint.always_on) == ((("Modal-Key", "s3cret"),), 1)
    assert acme.platform_url == "https://pools.example/platform"
    assert "s3cret" not in repr(acme)


def test_aliases_drained_and_payers(acme: Policy) -> None:
    """The rest of a file arrives as it was written; payers keep their defaults where it is silent."""
    assert acme.aliases == {"gpt": "small", "small": "chat:economy"}
    assert acme.drained == {"qwen3-4b-bf16-a10"}
    assert (acme.failed_attempts["timeout"], acme.failed_attempts["unavailable"]) == (Payer.TENANT, Payer.HOUSE)


KEY = f"keys: [{{id: k, sha256: {HASH_A}}}]"
MISTAKES = [
    ("unknown key", BASE + "clases: {}\n", "8: unknown key 'clases'; did you mean 'classes'?"),
    ("repeated key", BASE + "version: 1\n", "8: repeated key 'version'"),
    ("unknown pool", BASE.replace("fp16-t4", "fp16-t5"), "6: class 'chat' lists pool 'qwen3-4b-fp16-t5'"),
    ("did you mean", BASE.replace("fp16-t4", "fp16-t5"), "did you mean 'qwen3-4b-fp16-t4'?"),
    (
        "pool twice",
        BASE.replace("bf16-a10", "fp16-t4"),
        "7: pool 'qwen3-4b-fp16-t4' is on the ladder of class 'chat' already",
    ),
    ("tier unserved", BASE.replace("premium:", "standard:"), "5: nothing serves class 'chat' at premium"),
    ("no pool at all", BASE.replace("[qwen3-4b-bf16-a10]", "[]").replace("economy", "standard"), "at premium"),
    ("unknown tier", BASE.replace("premium", "premum"), "7: "),
    ("alias cycle", BASE + "aliases: {a: b, b: a}\n", "8: aliases go in a circle: a → b → a"),
    ("alias to nothing", BASE + "aliases: {a: chatt}\n", "leads to 'chatt', which is nothing; did you mean 'chat'?"),
    ("alias hides a class", BASE + "aliases: {chat: qwen3-4b-bf16-a10}\n", "8: alias 'chat' hides the class"),
    ("alias hides a pool", BASE + "aliases: {qwen3-4b-bf16-a10: chat}\n", "hides the class, tier or pool"),
    ("price book", BASE.replace("2026-10", "2026-09"), "2: there is no price book 'modal-2026-09'; did you mean"),
    ("no price book", BASE.replace("price_book: modal-2026-10\n", ""), "'price_book' is missing"),
    ("no price", BASE.replace("modal-2026-10", "doc-qwen-vllm-models"), "no price for GPU 'T4'"),
    ("plain key", BASE + "tenants: {a: {keys: [{id: k, key: sk-secret}]}}\n", "sha256sum"),
    ("key in place of its hash", BASE + "tenants: {a: {keys: [{id: k, sha256: sk-secret}]}}\n", "64 lower-case hex"),
    (
        "a key that anybody would try",
        BASE + f"tenants: {{a: {{keys: [{{id: k, sha256: {hashlib.sha256(b'foo').hexdigest()}}}]}}}}\n",
        "openssl rand -hex 24",
    ),
    (
        "the hash of no key at all",
        BASE + f"tenants: {{a: {{keys: [{{id: k, sha256: {hashlib.sha256(b'').hexdigest()}}}]}}}}\n",
        "openssl rand -hex 24",
    ),
    ("bare key", BASE + "tenants: {a: {keys: [sk-secret]}}\n", "sha256sum"),
    (
        "one key, two tenants",
        BASE + f"tenants: {{a: {{{KEY}}}, b: {{{KEY.replace('id: k', 'id: l')}}}}}\n",
        "has the hash of the key",
    ),
    (
        "one id, two keys",
        BASE + f"tenants: {{a: {{{KEY}}}, b: {{{KEY.replace('a' * 64, 'b' * 64)}}}}}\n",
        "key id 'k' is taken",
    ),
    ("house account", BASE + "tenants: {__idle__: {}}\n", "__idle__"),
    ("tenant's class", BASE + "tenants: {a: {classes: [chatt]}}\n", "which is none; did you mean 'chat'?"),
    (
        "a pool's cap that lowers",
        BASE + LOWERS.format("pool:qwen3-4b-fp16-t4"),
        "8: cap 'pool:qwen3-4b-fp16-t4/c' is a pool's",
    ),
    (
        "an endpoint's that is a pool",
        BASE + LOWERS.format("endpoint:qwen3-4b-fp16-t4"),
        "it lowers nobody's; leave lower_tier out",
    ),
    ("scope of nothing", BASE + 'caps: [{name: c, amount_usd: 1, window: 24h, scope: "pool:x"}]\n', "names no pool"),
    ("no scope", BASE + "caps: [{name: c, amount_usd: 1, window: 24h}]\n", "has no scope"),
    (
        "another's scope",
        BASE + 'tenants: {a: {caps: [{name: c, amount_usd: 1, window: 24h, scope: "class:chat"}]}}\n',
        "is not this tenant's",
    ),
    (
        "two caps of one name",
        BASE + 'caps: [{name: c, amount_usd: 1, window: 24h, scope: "class:chat"}, '
        '{name: c, amount_usd: 1, window: 7d, scope: "class:chat"}]\n',
        "there is a cap 'class:chat/c' at",
    ),
    (
        "window",
        BASE + 'caps: [{name: c, amount_usd: 1, window: 25x, scope: "class:chat"}]\n',
        "8: 'caps.0.window': '25x' is not a window",
    ),
    ("negative amount", BASE + 'caps: [{name: c, amount_usd: -1, window: 1mo, scope: "class:chat"}]\n', "unlimited"),
    (
        "threshold",
        BASE + 'caps: [{name: c, amount_usd: 1, window: 1mo, scope: "class:chat", thresholds: {warn: 120%}}]\n',
        "120%",
    ),
    ("zone", BASE + "timezone: Mars/Base\n", "8: there is no time zone 'Mars/Base'"),
    ("mixed media", BASE.replace("[qwen3-4b-bf16-a10]", "[flux-dev-bf16-l40s]"), "mixes what cannot stand in"),
    ("endpoint of nothing", BASE + "endpoints: {t5: {url: 'https://x'}}\n", "which is in no catalogue"),
    ("no url", BASE + "endpoints: {qwen3-4b-fp16-t4: {url: pools.example}}\n", "https://"),
    (
        "variable not set",
        BASE + "endpoints: {qwen3-4b-fp16-t4: {url: 'https://${HOST}'}}\n",
        "variable HOST is not set",
    ),
    (
        "plain endpoint key",
        BASE + "endpoints: {qwen3-4b-fp16-t4: {url: 'https://x', api_key: sk-secret}}\n",
        "${VARIABLE}",
    ),
    (
        "plain header",
        BASE + "endpoints: {qwen3-4b-fp16-t4: {url: 'https://x', headers: {K: sk-secret}}}\n",
        "${VARIABLE}",
    ),
    (
        "no header's name",
        BASE + "endpoints: {qwen3-4b-fp16-t4: {url: 'https://x', headers: {'X Key': '${HOME}'}}}\n",
        "'X Key' is no name of a header",
    ),
    ("drained nothing", BASE + "drained: [t5]\n", "drained pool 't5'"),
    (
        "contradiction",
        BASE + "defaults: {first_byte_deadline_s: 700}\n",
        "4: class 'chat' would end an answer before it begins",
    ),
    ("lease below two ticks", BASE + "defaults: {hold_tick_s: 20, hold_lease_s: 30}\n", "expire between two ticks"),
    ("no classes", "version: 1\nprice_book: modal-2026-10\n", "there are no classes"),
    ("no book named", BASE.replace("modal-2026-10", "[]"), "2: 'price_book' names no book"),
    ("a book that is not there", BASE + "price_books: [none.yaml]\n", "none.yaml:1: cannot read this file"),
    (
        "a folder in the place of a book",
        BASE + "price_books: ['']\n",
        "8: 'price_books.0': string should have at least 1",
    ),
    ("no file's name", BASE + 'price_books: ["a\\0.yaml"]\n', "8: 'price_books.0': string should match"),
    (
        "no model's name",
        BASE + 'predict: {output_tokens: model, file: "a\\0"}\n',
        "8: 'predict.file': string should match",
    ),
    (
        "a share beyond any",
        BASE + 'caps: [{name: c, amount_usd: 1, window: 1mo, scope: "class:chat", thresholds: {warn: 1e999999999%}}]\n',
        "8: 'caps.0.thresholds.warn': '1e999999999%' is not a share",
    ),
    ("a book called by a day", BASE.replace("modal-2026-10", "2026-10-01"), "put it in quotes"),
    ("a class called by a number", BASE.replace("  chat:", "  12:"), "4: the key 12 is no text; put it in quotes"),
    ("a row of nothing", BASE + "pools: {mine: {extends: qwen3-4b-fp16-t5}}\n", "did you mean 'qwen3-4b-fp16-t4'?"),
    ("no address", BASE + "endpoints: {qwen3-4b-fp16-t4: {url: 'http://['}}\n", "name a host"),
    ("an empty file", "", "empty"),
    ("half a file", BASE[:-4] + "\n  - [", "not valid YAML"),
]


@pytest.mark.parametrize(("text", "said"), [pytest.param(text, said, id=name) for name, text, said in MISTAKES])
def test_each_mistake_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    """The message has the line and the remedy, and never repeats what could be a secret."""
    found = problems(tmp_path, text)
    assert any(said in problem for problem in found), found
    assert not any("sk-secret" in problem for problem in found)


@pytest.mark.parametrize("key", ["api_key: '${K}'", "headers: {X-Key: 'Bearer ${K}'}"])
@pytest.mark.parametrize("secret", ["s3cret\n", "s3cret\r", "s3crét", "s3\0cret"])
def test_a_secret_that_no_header_can_carry_is_refused_unseen(tmp_path: Path, key: str, secret: str) -> None:
    """A line break from the file that it was read from would break every request to its pool."""
    [problem] = problems(tmp_path, f"{BASE}endpoints: {{qwen3-4b-fp16-t4: {{url: 'https://x', {key}}}}}\n", K=secret)
    assert problem.startswith("8: ")
    assert problem.endswith("no header can carry, such as a line break; take it out of the variable")
    assert "s3" not in problem


def test_a_pool_that_cannot_load_is_refused_with_its_arithmetic(tmp_path: Path) -> None:
    """A row of the file's own that is too large for its GPU: the ladder's line, the sum, and what would do."""
    text = BASE + (
        "pools:\n  too-large:\n    extends: qwen3-next-80b-fp8-2xh100\n    gpu_count: 1\n    max_model_len: 8192\n"
    )
    [problem] = problems(tmp_path, text.replace("[qwen3-4b-bf16-a10]", "[too-large]"))
    assert problem.startswith("7: pool 'too-large': cannot load: weights 74.9 GiB")
    assert "fits 2×H100 or 1×H200" in problem


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Mistakes in different sections are one report."""
    text = BASE.replace("fp16-t4", "fp16-t5") + "aliases: {a: b, b: a}\ntimezone: Mars/Base\ndrained: [t5]\n"
    text += "defaults: {max_attemps: 3}\n"
    found = " | ".join(problems(tmp_path, text))
    for word in ("did you mean 'max_attempts'?", "qwen3-4b-fp16-t5", "circle", "Mars/Base", "drained pool"):
        assert word in found


def test_variables_may_be_missing_where_nothing_is_called(tmp_path: Path) -> None:
    """Looking at files needs no secrets: `assume_deployed` leaves variables as they are written."""
    path = write_policy(tmp_path, BASE + "endpoints: {qwen3-4b-fp16-t4: {url: 'https://${HOST}/x'}}\n")
    policy = load_policy([path], environ={}, now_us=NOW_US, assume_deployed=True)
    assert policy.endpoints["qwen3-4b-fp16-t4"].url == "https://${HOST}/x"
