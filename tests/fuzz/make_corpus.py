#!/usr/bin/env python3
"""Writes the corpora of the fuzz targets: tests/fuzz/make_corpus.py

corpus/<target>/valid-* are accepted by the parser, bad-* refused, one for each rule of the format. The files
are committed; this script says what is in the binary ones and is run again when a format changes.
"""

import gzip
import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).parent / "corpus"


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def write(target, files):
    folder = ROOT / target
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, contents in files.items():
        data = contents if isinstance(contents, bytes) else contents.encode()
        (folder / name).write_bytes(data)


def json_corpus():
    return {
        "valid-types": '{"a": [1, -2.5e1, true, false, null, "x"], "b": {}, "c": []}',
        "valid-numbers": "[0, -0, 0.0, -9223372036854775808, 9223372036854775807, 5e-324, 1e-400, 1E+2]",
        "valid-strings": r'["\"\\\/\b\f\n\r\t\u0041\u00e9\u20AC\ud83d\ude00", "é€😀", ""]',
        "valid-nested": "[" * 32 + "]" * 32,
        "valid-scalar": " \t\r\n1 ",
        "bad-empty": "",
        "bad-depth": "[" * 33 + "]" * 33,
        "bad-duplicate-key": r'{"a": 1, "\u0061": 2}',
        "bad-trailing-comma": "[1,]",
        "bad-trailing-text": "{} {}",
        "bad-no-colon": '{"a" 1}',
        "bad-key-type": "{1: 2}",
        "bad-literal": "[nul]",
        "bad-nan": "NaN",
        "bad-leading-zero": "[01]",
        "bad-fraction": "[1.]",
        "bad-exponent": "[1e]",
        "bad-integer-range": "9223372036854775808",
        "bad-double-range": "1e999",
        "bad-control-character": b'"a\x01"',
        "bad-escape": r'"\x"',
        "bad-unicode-escape": r'"\u12g4"',
        "bad-lone-surrogate": r'"\ud800"',
        "bad-swapped-surrogates": r'"\ude00\ud83d"',
        "bad-utf8-overlong": b'"\xc0\x80"',
        "bad-utf8-surrogate": b'"\xed\xa0\x80"',
        "bad-utf8-range": b'"\xf4\x90\x80\x80"',
        "bad-utf8-cut": b'"\xe2\x82',
        "bad-unclosed-string": '"abc',
        "bad-unclosed-array": "[1, 2",
        "bad-unclosed-object": '{"a": 1',
    }


def safetensors(header, data=b"", length=None):
    if not isinstance(header, str):
        header = json.dumps(header, separators=(",", ":"))
    header = header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_corpus():
    one = tensor("U8", [4], 0, 4)
    two = {"a": one, "b": tensor("F32", [2, 1], 4, 12)}
    files = {
        "valid-empty": safetensors({}),
        "valid-two": safetensors(two, bytes(12)),
        "valid-padded": safetensors(json.dumps({"a": one}) + "   ", bytes(4)),
        "valid-metadata": safetensors({"__metadata__": {"k": "v"}, "a": one}, bytes(4)),
        "valid-scalar-and-empty": safetensors(
            {"s": tensor("F64", [], 0, 8), "e": tensor("I64", [0, 3], 8, 8)}, bytes(8)),
        "valid-halves": safetensors({"h": tensor("F16", [1], 0, 2), "b": tensor("BF16", [1], 2, 4),
                                     "i": tensor("I32", [1], 4, 8)}, bytes(8)),
        "bad-no-length": b"1234567",
        "bad-length-over-file": safetensors({}, length=3),
        "bad-length-huge": safetensors({}, length=2**64 - 1),
        "bad-length-over-limit": safetensors({}, length=100_000_001),
        "bad-no-brace": safetensors(" {}"),
        "bad-json": safetensors('{"a"'),
        "bad-deep": safetensors({"a": {"b": {"c": {"d": {}}}}}),
        "bad-entry": safetensors({"a": 1}),
        "bad-extra-key": safetensors({"a": {**one, "x": 1}}, bytes(4)),
        "bad-missing-key": safetensors({"a": {"dtype": "U8", "shape": [4]}}, bytes(4)),
        "bad-dtype": safetensors({"a": tensor("F8_E4M3", [4], 0, 4)}, bytes(4)),
        "bad-dtype-type": safetensors({"a": tensor(8, [4], 0, 4)}, bytes(4)),
        "bad-shape-type": safetensors({"a": tensor("U8", "4", 0, 4)}, bytes(4)),
        "bad-shape-negative": safetensors({"a": tensor("U8", [-4, -1], 0, 4)}, bytes(4)),
        "bad-shape-fraction": safetensors({"a": tensor("U8", [4.0], 0, 4)}, bytes(4)),
        "bad-rank": safetensors({"a": tensor("U8", [1] * 7, 0, 1)}, bytes(1)),
        "bad-numel-overflow": safetensors({"a": tensor("U8", [2**32, 2**32], 0, 0)}),
        "bad-bytes-overflow": safetensors({"a": tensor("F64", [2**61], 0, 0)}),
        "bad-product": safetensors({"a": tensor("U8", [5], 0, 4)}, bytes(4)),
        "bad-offsets-type": safetensors({"a": {**one, "data_offsets": 4}}, bytes(4)),
        "bad-offsets-count": safetensors({"a": {**one, "data_offsets": [0, 4, 4]}}, bytes(4)),
        "bad-offsets-order": safetensors({"a": tensor("U8", [4], 4, 0)}, bytes(4)),
        "bad-overlap": safetensors({"a": one, "b": tensor("U8", [4], 3, 7)}, bytes(7)),
        "bad-hole": safetensors({"a": one, "b": tensor("U8", [4], 5, 9)}, bytes(9)),
        "bad-data-short": safetensors({"a": one}, bytes(3)),
        "bad-data-long": safetensors({"a": one}, bytes(5)),
        "bad-duplicate-name": safetensors(
            '{"a":%s,"a":%s}' % (json.dumps(one), json.dumps(tensor("U8", [4], 4, 8))), bytes(8)),
        "bad-metadata": safetensors({"__metadata__": []}),
        "bad-metadata-value": safetensors({"__metadata__": {"k": 1}}),
    }
    return files


def varint(value):
    value &= 2**64 - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(*fields):
    """(number, value) pairs: an int is a varint, bytes or str a length-delimited field."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def fixed32(number, value):
    return varint(number << 3 | 5) + struct.pack("<I", value)


def packed_fixed32(*values):
    return struct.pack("<%dI" % len(values), *values)


def part(file, begin, size, offset, crcs):
    return message((1, file), (3, b"".join(map(varint, begin))), (4, b"".join(map(varint, size))),
                   (5, offset), (6, packed_fixed32(*crcs)))


def shard(name, size, header):
    return message((1, name), (2, size), (3, header)) + fixed32(4, 7)


def record(parts, name="t", dtype="F32", shape=(5, 2), policy=0):
    return message((1, name), (2, dtype), (3, b"".join(map(varint, shape))), (4, policy),
                   *[(5, p) for p in parts])


PARTS = [part(0, (0, 0), (3, 2), 64, (1, 2)), part(1, (3, 0), (2, 2), 64, (3,))]


def manifest(version=1, step=3, block=16, mesh=(("replica", 2),), files=None, tensors=None, scalars=None,
             raw=b""):
    files = [shard("a.safetensors", 88, 64), shard("b.safetensors", 80, 64)] if files is None else files
    tensors = [record(PARTS)] if tensors is None else tensors
    scalars = [message((1, "next"), (2, 5)), message((1, "note"), (4, "x"))] if scalars is None else scalars
    body = message((1, version), (2, step), (3, "hash"), (4, "seed: 1"),
                   *[(5, message((1, n), (2, s))) for n, s in mesh], *[(6, s) for s in scalars],
                   (7, block), *[(8, f) for f in files], *[(9, t) for t in tensors]) + raw
    return body + fixed32(15, crc32c(body))


def manifest_corpus():
    a, b = shard("a.safetensors", 88, 64), shard("b.safetensors", 80, 64)
    good = manifest()
    return {
        "valid-two-parts": good,
        "valid-no-tensors": manifest(files=[], tensors=[], scalars=[], mesh=()),
        "valid-per-replica": manifest(files=[shard("a", 80, 64)], tensors=[
            record([part(0, (0,), (2,), 64, (1,))], shape=(2,), dtype="F64", policy=2)]),
        "valid-empty-tensor": manifest(files=[], tensors=[record([], shape=(0, 4))]),
        "bad-empty": b"",
        "bad-checksum": good[:-1] + bytes([good[-1] ^ 1]),
        "bad-truncated": good[:40],
        "bad-message": b"\x0f" + fixed32(15, crc32c(b"\x0f")),
        "bad-version": manifest(version=2),
        "bad-step": manifest(step=-1),
        "bad-block": manifest(block=0),
        "bad-mesh-twice": manifest(mesh=(("replica", 2), ("replica", 2))),
        "bad-mesh-size": manifest(mesh=(("replica", 0),)),
        "bad-scalar-without-value": manifest(scalars=[message((1, "next"))]),
        "bad-scalar-without-name": manifest(scalars=[message((2, 5))]),
        "bad-file-absolute": manifest(files=[shard("/etc/passwd", 88, 64), b]),
        "bad-file-parent": manifest(files=[shard("../a", 88, 64), b]),
        "bad-file-folder": manifest(files=[shard("a/b", 88, 64), b]),
        "bad-file-hidden": manifest(files=[shard(".a", 88, 64), b]),
        "bad-file-twice": manifest(files=[a, a]),
        "bad-file-header": manifest(files=[shard("a", 88, 89), b]),
        "bad-tensor-twice": manifest(tensors=[record(PARTS), record(PARTS)]),
        "bad-dtype": manifest(tensors=[record(PARTS, dtype="F8")]),
        "bad-rank": manifest(tensors=[record(PARTS, shape=(1,) * 7)]),
        "bad-shape-negative": manifest(tensors=[record(PARTS, shape=(-5, 2))]),
        "bad-numel-overflow": manifest(tensors=[record(PARTS, shape=(2**32, 2**32))]),
        "bad-bytes-overflow": manifest(tensors=[record(PARTS, shape=(2**61, 2))]),
        "bad-policy": manifest(tensors=[record(PARTS, policy=9)]),
        "bad-policy-scalar": manifest(tensors=[record([], shape=(), policy=2)], files=[]),
        "bad-part-file": manifest(tensors=[record([PARTS[0], part(2, (3, 0), (2, 2), 64, (3,))])]),
        "bad-part-rank": manifest(tensors=[record([PARTS[0], part(1, (3,), (2,), 64, (3,))])]),
        "bad-part-empty": manifest(tensors=[record([PARTS[0], part(1, (3, 0), (0, 2), 64, ())])]),
        "bad-part-outside": manifest(tensors=[record([PARTS[0], part(1, (4, 0), (2, 2), 64, (3,))])]),
        "bad-part-offset": manifest(tensors=[record([PARTS[0], part(1, (3, 0), (2, 2), 72, (3,))])]),
        "bad-part-offset-huge": manifest(
            tensors=[record([PARTS[0], part(1, (3, 0), (2, 2), 2**63 - 1, (3,))])]),
        "bad-part-checksums": manifest(tensors=[record([PARTS[0], part(1, (3, 0), (2, 2), 64, ())])]),
        "bad-parts-overlap": manifest(tensors=[record([PARTS[0], part(1, (2, 0), (2, 2), 64, (3,))])]),
        "bad-parts-hole": manifest(files=[a], tensors=[record(PARTS[:1])]),
        "bad-file-overlap": manifest(files=[shard("a.safetensors", 104, 64)], tensors=[
            record([PARTS[0], part(0, (3, 0), (2, 2), 64, (3,))])]),
        "bad-file-hole": manifest(files=[a, shard("b.safetensors", 80, 60)]),
        "bad-file-end": manifest(files=[a, shard("b.safetensors", 81, 64)]),
    }


def token_shard(tokens=(1, 2, 3, 4, 5), documents=((2, 3, 11), (3, 4, 12)), width=1, vocabulary=256,
                num_tokens=None, num_documents=None, version=1, magic=b"trirtok\n", tail=b"", pad=None):
    packed = b"".join(struct.pack({1: "<B", 2: "<H", 4: "<I"}[width], t) for t in tokens)
    padding = bytes(-len(packed) % 4) if pad is None else pad
    tables = b"".join(struct.pack("<III", *d) for d in documents)
    tables += b"".join(struct.pack("<I", crc32c(packed[i:i + 65536])) for i in range(0, len(packed), 65536))
    tables += tail
    header = magic + struct.pack("<IIQQQ", version, width, vocabulary,
                                 len(tokens) if num_tokens is None else num_tokens,
                                 len(documents) if num_documents is None else num_documents)
    header += b"bytes".ljust(16, b"\0") + struct.pack("<I", crc32c(padding + tables))
    return header + struct.pack("<I", crc32c(header)) + packed + padding + tables


def token_shard_corpus():
    good = token_shard()
    return {
        "valid-bytes": good,
        "valid-wide": token_shard(width=2, vocabulary=300, tokens=(1, 299, 3, 4, 5)),
        "valid-wider": token_shard(width=4, vocabulary=70000, tokens=(1, 69999, 3, 4, 5)),
        "bad-empty": b"",
        "bad-magic": token_shard(magic=b"trirtok\r"),
        "bad-version": token_shard(version=2),
        "bad-header-checksum": good[:60] + bytes(4) + good[64:],
        "bad-table-checksum": good[:-6] + bytes([good[-6] ^ 1]) + good[-5:],
        "bad-block-checksum": good[:64] + b"\x09" + good[65:],
        "bad-width": token_shard(width=2),
        "bad-vocabulary": token_shard(vocabulary=0),
        "bad-vocabulary-huge": token_shard(vocabulary=2**31),
        "bad-token": token_shard(vocabulary=5),
        "bad-num-tokens": token_shard(num_tokens=2**62),
        "bad-num-documents": token_shard(num_documents=2**62),
        "bad-document-empty": token_shard(documents=((0, 3, 11), (5, 4, 12))),
        "bad-document-sum": token_shard(documents=((2, 3, 11), (2, 4, 12))),
        "bad-truncated": good[:-4],
        "bad-trailing": token_shard(tail=bytes(4)),
    }


def idx(dims, values, kind=8, magic=b"\0\0"):
    return magic + bytes([kind, len(dims)]) + b"".join(struct.pack(">I", d) for d in dims) + values


def idx_corpus():
    good = idx((2, 3), bytes(range(6)))
    return {
        "valid-matrix": good,
        "valid-vector": idx((4,), b"abcd"),
        "valid-empty": idx((0, 5), b""),
        "valid-gzip": gzip.compress(good, mtime=0),
        "bad-empty": b"",
        "bad-magic": idx((1,), b"a", magic=b"\0\1"),
        "bad-type": idx((1,), b"abcd", kind=13),
        "bad-rank": idx((), b""),
        "bad-header": good[:9],
        "bad-short": good[:-1],
        "bad-long": good + b"x",
        "bad-huge": idx((2**32 - 1, 2**32 - 1), b""),
        "bad-overflow": idx((2**31,) * 8, b""),
        "bad-gzip": gzip.compress(good, mtime=0)[:-9],
        "bad-gzip-data": gzip.compress(good, mtime=0)[:12] + b"\xff" * 8,
    }


def text_corpus():
    text = "\nLark, n.\n   A frolic.\n\n# Larker, n.\r\n \t\r\n\tA catcher.\n\nend".encode()
    packed = gzip.compress(text, mtime=0)
    return {
        "valid-empty": b"",
        "valid-entries": text,
        "valid-binary": bytes(range(256)),
        "valid-blank": b"\n\r\n \t\n",
        "valid-gzip": packed,
        "valid-members": packed + gzip.compress(b"", mtime=0) + packed,
        "bad-magic-only": packed[:2],
        "bad-header": packed[:9],
        "bad-truncated": packed[:-1],
        "bad-checksum": packed[:-8] + bytes(4) + packed[-4:],
        "bad-garbage": packed + b"x",
        "bad-second-member": packed + packed[:-1],
    }


def config_corpus():
    return {
        "valid-empty": "# nothing\n",
        "valid-run": 'model { name: "transformer" width: 64 S { name: "softmax" heads: 4 } }\n'
                     'data { dataset { name: "text" params { key: "path" value: "a.txt" } } }\n'
                     "batch { global_batch_size: 8 }\nnum_steps: 100\nlearning_rate: 1e-3\n"
                     'groups { pattern: "*.gain" decay: false }\n'
                     'groups { pattern: "*" optimizer { name: "sgd" } lr_scale: 0.5 }\n',
        "valid-assignments": "num_steps: 3",
        "bad-assignments": "num_steps=3\nmodel.width=4\nmodel.S.heads=2\ngroups.0.decay=true\n",
        "bad-key": "num_step: 1\n",
        "bad-type": 'num_steps: "a"\n',
        "bad-range": "num_steps: 99999999999999999999\n",
        "bad-twice": "num_steps: 1\nnum_steps: 2\n",
        "bad-unclosed": "batch {\n",
        "bad-closed": "}\n",
        "bad-string": 'model { name: "a\n',
        "bad-escape": 'model { name: "\\q" }\n',
        "bad-no-value": "num_steps:\n",
        "bad-message-value": "batch: 3\n",
        "bad-scalar-message": "num_steps { }\n",
        "bad-param-twice": 'model { name: "m" width: 1 width: 2 }\n',
        "bad-character": "num_steps: 1 \x01\n",
        "bad-depth": "model { a " + "{ a " * 200 + "}" * 201,
    }


if __name__ == "__main__":
    write("json", json_corpus())
    write("safetensors", safetensors_corpus())
    write("manifest", manifest_corpus())
    write("token_shard", token_shard_corpus())
    write("idx", idx_corpus())
    write("text", text_corpus())
    write("config", config_corpus())
