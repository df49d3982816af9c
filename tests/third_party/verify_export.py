"""Checks an export's receipts with other people's code, and nothing of ours.

    pip install -r requirements.txt
    python verify_export.py export.ndjson trust.json

securesystemslib checks each DSSE envelope, in-toto-attestation the Statement, rfc8785 the canonical form, and hashlib
the Merkle root. Then every receipt is changed by one bit in turn, and all of the copies must be refused.

Exit code: 0 when everything was accepted and every changed copy refused, 1 when not, 3 for misuse.
"""

import base64
import copy
import hashlib
import json
import sys

import rfc8785
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementPb
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

PREDICATE_TYPE = "https://countersign.dev/receipt/v1"
LISTED = 10


def trusted_keys(trust):
    """The receipt keys of a trust file, as securesystemslib wants them."""
    keys = []
    for key in trust["receiptKeys"]:
        # SPKI PEM, which for Ed25519 ends with the 32 raw bytes; this scheme wants them in hex.
        raw = base64.b64decode("".join(key["publicKeyPem"].splitlines()[1:-1]))[-32:]
        if hashlib.sha256(raw).hexdigest() != key["keyId"]:
            raise ValueError(f"the key {key['keyId']} is named wrongly")
        keys.append(SSlibKey(key["keyId"], "ed25519", "ed25519", {"public": raw.hex()}))
    return keys


def check_envelope(envelope, keys):
    """Raises when the envelope is not one receipt, signed by a trusted key."""
    if rfc8785.dumps(envelope) != json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode():
        raise ValueError("the envelope is not in canonical form")
    # from_dict takes its argument apart, so it gets a copy.
    dsse = Envelope.from_dict(copy.deepcopy(envelope))
    dsse.verify(keys, 1)
    statement = json.loads(dsse.payload)
    if rfc8785.dumps(statement) != dsse.payload:
        raise ValueError("the payload is not in canonical form")
    message = json_format.ParseDict(statement, StatementPb())
    Statement.copy_from_pb(message).validate()
    if statement["predicateType"] != PREDICATE_TYPE:
        raise ValueError(f"unknown predicate {statement['predicateType']}")
    return statement


def leaf_hash(envelope):
    return hashlib.sha256(b"\x00" + rfc8785.dumps(envelope)).digest()


def merkle_root(hashes):
    """RFC 6962 section 2.1, over a list of leaf hashes."""
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    middle = 1 << ((len(hashes) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + merkle_root(hashes[:middle]) + merkle_root(hashes[middle:])).digest()


def check_checkpoint(note, vkey):
    """Size and root of a signed note (C2SP signed-note, tlog-checkpoint)."""
    name, key_id, key = vkey.split("+", 2)
    public = base64.b64decode(key)[1:]
    text, signatures = note.rsplit("\n\n", 1)
    text += "\n"
    for line in signatures.splitlines():
        _, signer, signature = line.split(" ")
        signature = base64.b64decode(signature)
        if signer == name and signature[:4].hex() == key_id:
            log = SSlibKey(key_id, "ed25519", "ed25519", {"public": public.hex()})
            log.verify_signature(Note(key_id, signature[4:].hex()), text.encode())
            origin, size, root = text.splitlines()[:3]
            if origin != name:
                raise ValueError(f"the checkpoint is of {origin}, not of {name}")
            return int(size), base64.b64decode(root)
    raise ValueError("the checkpoint is not signed by the log's key")


class Note:
    """A signature in the shape that securesystemslib's keys take."""

    def __init__(self, keyid, signature):
        self.keyid, self.signature = keyid, signature


def changed(envelope, number):
    """A copy with one bit of the payload turned over."""
    copied = copy.deepcopy(envelope)
    payload = bytearray(base64.b64decode(copied["payload"]))
    payload[(number * 7919) % len(payload)] ^= 1
    copied["payload"] = base64.b64encode(payload).decode()
    return copied


def main(export_path, trust_path):
    with open(trust_path, encoding="utf-8") as file:
        trust = json.load(file)
    keys = trusted_keys(trust)
    wrong, hashes = [], []
    with open(export_path, encoding="utf-8") as file:
        header = json.loads(file.readline())
        size, root = check_checkpoint(header["checkpoint"], trust["log"]["vkey"])
        for number, line in enumerate(file):
            envelope = json.loads(line)["envelope"]
            hashes.append(leaf_hash(envelope))
            try:
                check_envelope(envelope, keys)
            except Exception as error:  # Whatever a library raises, it did not accept.
                wrong.append(f"receipt {number} is not accepted: {error}")
            try:
                check_envelope(changed(envelope, number), keys)
                wrong.append(f"receipt {number} is accepted although it was changed")
            except VerificationError:
                pass
    if header["complete"] and header["from"] == 0 and (len(hashes), merkle_root(hashes)) != (size, root):
        wrong.append("the receipts do not give the checkpoint's root")
    if not hashes:
        wrong.append("there is no receipt to check")
    for sentence in wrong[:LISTED]:
        print(sentence)
    print(f"{len(hashes)} receipts checked, {len(wrong)} problems")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print(__doc__)
        sys.exit(3)
    sys.exit(main(sys.argv[1], sys.argv[2]))
