"""`wattgate proof verify`: a third party checks a receipt. Needs no database, no network and no private key.

Exit status: 0 the receipt is true, 2 bad arguments or a file that cannot be used, 3 refused, and why.
Words are English and Chinese, as `--lang` says.
"""

import argparse
import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from cloud_sync.keys import KEYRING_FILE, load_key_ring
from cloud_sync.proof.receipt import HeadFile, Proof, ProofRefused, Receipt, Verified, read_document, verify_receipt

LANGUAGES: Final = ("en", "zh")
EXIT_BAD_INPUT: Final = 2
EXIT_REFUSED: Final = 3
FILE_BYTES_MAX: Final = 64 * 1024 * 1024

VERIFY_EXAMPLE: Final = """example:
  wattgate proof verify --receipt receipt.json --head head.json --proof proof.json
  wattgate proof verify --receipt receipt.json --head head.json --proof proof.json --keyring keyring.json --json

The key ring holds the operator's public keys: get it from somebody you trust, not with the receipt.
"""


def add_verify_command(kinds: Any) -> None:
    """Adds `verify` to the commands of `wattgate proof`."""
    raw: Any = argparse.RawDescriptionHelpFormatter
    verify = kinds.add_parser("verify", help="check a receipt", epilog=VERIFY_EXAMPLE, formatter_class=raw)
    verify.add_argument("--receipt", required=True, type=Path, metavar="FILE", help="gateway, epoch, seq and hash")
    verify.add_argument("--head", required=True, type=Path, metavar="FILE", help="the signed head of the day's tree")
    verify.add_argument("--proof", type=Path, metavar="FILE", help="(default: the receipt's own field `proof`)")
    verify.add_argument(
        "--keyring", type=Path, metavar="FILE", help=f"the operator's public keys (default: {KEYRING_FILE} by the head)"
    )
    verify.add_argument("--device-key", type=_key, metavar="HEX", help="the gateway's public key, as on its label")
    verify.add_argument("--earlier-head", type=Path, metavar="FILE", help="the same day's tree must have grown from it")
    verify.add_argument("--lang", choices=LANGUAGES, default="en", help="language of the words (en)")
    verify.add_argument("--json", action="store_true", help="one object for programs")
    verify.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    try:
        ring = load_key_ring(options.keyring or options.head.parent / KEYRING_FILE)
        receipt: Receipt = _read(options.receipt, Receipt)
        proof = receipt.proof if options.proof is None else _read(options.proof, Proof)
        if proof is None:
            raise ValueError(f"{options.receipt}: has no field `proof`; give --proof FILE")
        head = _read(options.head, HeadFile)
        earlier = None if options.earlier_head is None else _read(options.earlier_head, HeadFile)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"wattgate proof verify: {error}\n")
        return EXIT_BAD_INPUT
    found = verify_receipt(receipt, proof, head, ring, options.device_key, earlier)
    facts = _facts(receipt, proof, found, options.device_key is not None)
    sys.stdout.write((json.dumps(facts) if options.json else _sentence(facts, found, options.lang)) + "\n")
    return 0 if isinstance(found, Verified) else EXIT_REFUSED


def _facts(receipt: Receipt, proof: Proof, found: Verified | ProofRefused, pinned: bool) -> dict[str, Any]:
    facts = {"valid": isinstance(found, Verified), "gateway": receipt.gw, "epoch": receipt.epoch, "seq": receipt.seq}
    if isinstance(found, ProofRefused):
        return {**facts, "reason": found.reason, "detail": found.detail}
    return {
        **facts,
        "record": found.record,
        "hash_digits": len(receipt.hash),
        "checkpoint": msgspec.to_builtins(found.checkpoint),
        "head": msgspec.to_builtins(found.head),
        "device_key": proof.device_key,
        "device_key_pinned": pinned,
    }


def _sentence(facts: dict[str, Any], found: Verified | ProofRefused, language: str) -> str:
    words: dict[str, str] = json.loads(resources.files("cloud_sync.proof").joinpath("words.json").read_bytes())[
        language
    ]
    if isinstance(found, ProofRefused):
        reason = words.get(found.reason) or words[found.reason.partition("_")[0] + "_"]
        return words["refused"].format(**facts, words=reason)
    lines = [words["true"].format(**facts, size=found.head.size, at=found.checkpoint.at)]
    if facts["hash_digits"] < 64:
        lines.append(words["short_hash"].format(**facts))
    if not facts["device_key_pinned"]:
        lines.append(words["not_pinned"].format(**facts))
    return "\n".join(lines)


def _read(path: Path, kind: Any) -> Any:
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"{path}: is longer than {FILE_BYTES_MAX} bytes")
    return read_document(content, kind, str(path))


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a public key: 64 hexadecimal digits")
    return key
