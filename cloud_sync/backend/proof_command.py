"""`wattgate proof`: the operator gives out receipts with their proofs and pins device keys; anybody verifies.

`verify` is cloud_sync.proof.commands. Exit status: 0 done, 2 bad arguments or a file that cannot be used.
"""

import argparse
import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from cloud_sync.backend.checkpoints import NotProvable, give_proof, pin_device_key
from cloud_sync.backend.database import failures, open_existing
from cloud_sync.ed25519 import Ed25519PrivateKey
from cloud_sync.keys import KEYRING_FILE, Role, Signer, load_key_ring, load_signers, save_key_ring, save_signer
from cloud_sync.proof.checkpoint import device_kid
from cloud_sync.proof.commands import EXIT_BAD_INPUT, add_verify_command
from cloud_sync.proof.head import verify_head
from cloud_sync.proof.receipt import HeadFile, read_document

EXAMPLE: Final = """example:
  wattgate proof new-key device.pem                       on the gateway; prints the public key
  wattgate proof pin --db cloud.db gw-1 PUBLIC_KEY        at the cloud
  wattgate proof give --db cloud.db --keys keys gw-1 4711 --out folder
  wattgate proof verify --receipt folder/receipt.json --head folder/head.json --proof folder/proof.json
"""


def add_proof_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `proof` and its commands to those of `wattgate`."""
    raw: Any = argparse.RawDescriptionHelpFormatter
    proof = commands.add_parser("proof", help="receipts that anybody can check", epilog=EXAMPLE, formatter_class=raw)
    kinds = proof.add_subparsers(required=True, metavar="COMMAND")
    add_verify_command(kinds)

    give = kinds.add_parser("give", help="write receipt.json, proof.json, head.json and keyring.json")
    give.add_argument(
        "--db", required=True, metavar="DB", help="the backend's database: a file, sqlite:///FILE or postgresql://..."
    )
    give.add_argument("--keys", required=True, type=Path, metavar="DIR", help="keyring.json and the ingest key")
    give.add_argument("gateway", metavar="GATEWAY")
    give.add_argument("seq", type=_count, metavar="SEQ", help="the ledger record, as the console shows it")
    give.add_argument("--epoch", type=_count, default=1, metavar="N", help="(1)")
    give.add_argument("--earlier-head", type=Path, metavar="FILE", help="also show that the tree grew from this one")
    give.add_argument("--out", required=True, type=Path, metavar="DIR")
    give.add_argument("--json", action="store_true", help="one object for programs")
    give.set_defaults(run=lambda options: _done(_give, options))

    pin = kinds.add_parser("pin", help="trust a gateway's device key")
    pin.add_argument(
        "--db", required=True, metavar="DB", help="the backend's database: a file, sqlite:///FILE or postgresql://..."
    )
    pin.add_argument("gateway", metavar="GATEWAY")
    pin.add_argument("public_key", metavar="PUBLIC_KEY", help="64 hexadecimal digits")
    pin.add_argument("--json", action="store_true", help="one object for programs")
    pin.set_defaults(run=lambda options: _done(_pin, options))

    new_key = kinds.add_parser("new-key", help="make a device key; its public half is printed")
    new_key.add_argument("file", type=Path, metavar="FILE", help="must not be there yet, NAME.pem")
    new_key.add_argument("--json", action="store_true", help="one object for programs")
    new_key.set_defaults(run=lambda options: _done(_new_key, options))


def _done(work: Any, options: argparse.Namespace) -> int:
    try:
        facts = work(options)
    except failures(NotProvable, OSError, ValueError) as error:
        sys.stderr.write(f"wattgate proof: {error}\n")
        return EXIT_BAD_INPUT
    lines = json.dumps(facts) if options.json else "\n".join(f"{name}: {value}" for name, value in facts.items())
    sys.stdout.write(lines + "\n")
    return 0


def _give(options: argparse.Namespace) -> dict[str, Any]:
    ring, signer = load_key_ring(options.keys / KEYRING_FILE), load_signers(options.keys).get(Role.INGEST)
    if signer is None:
        raise ValueError(f"{options.keys}: no private ingest key, which signs heads")
    size_before = 0
    if options.earlier_head is not None:
        file: HeadFile = read_document(options.earlier_head.read_bytes(), HeadFile, str(options.earlier_head))
        size_before = verify_head(bytes.fromhex(file.envelope), ring).size
    with closing(open_existing(options.db)) as database:
        record = options.gateway, options.epoch, options.seq
        given = give_proof(database, signer, record, int(time.time()), size_before)
    options.out.mkdir(parents=True, exist_ok=True)
    head = verify_head(given.head, ring)
    head_file = {"envelope": given.head.hex(), **msgspec.to_builtins(head)}
    for name, document in (("receipt", given.receipt), ("proof", given.proof), ("head", head_file)):
        text = msgspec.json.format(msgspec.json.encode(document), indent=2)
        (options.out / f"{name}.json").write_bytes(text + b"\n")
    save_key_ring(options.out / KEYRING_FILE, ring)
    receipt = given.receipt
    return {"gateway": receipt.gw, "epoch": receipt.epoch, "seq": receipt.seq, "hash": receipt.hash, "day": head.day}


def _pin(options: argparse.Namespace) -> dict[str, Any]:
    public_key = bytes.fromhex(options.public_key)
    with closing(open_existing(options.db)) as database:
        return {
            "gateway": options.gateway,
            "kid": pin_device_key(database, options.gateway, public_key, int(time.time())),
        }


def _new_key(options: argparse.Namespace) -> dict[str, Any]:
    if options.file.suffix != ".pem":
        raise ValueError(f"{options.file}: a key's file is called NAME.pem")
    if options.file.exists():
        raise ValueError(f"{options.file}: is there already; a key is never written over")
    key = Ed25519PrivateKey.generate()
    save_signer(options.file.parent, Signer(options.file.stem, key))
    return {"kid": device_kid(key.public_key()), "public_key": key.public_key().public_bytes_raw().hex()}


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)
