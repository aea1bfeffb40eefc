#!/usr/bin/env python3
"""spdx.py FILE - whether it is an SPDX 2.3 document that names llmd and what it is linked with."""
import json
import re
import sys

d = json.load(open(sys.argv[1]))
assert d["spdxVersion"] == "SPDX-2.3" and d["dataLicense"] == "CC0-1.0" and d["SPDXID"] == "SPDXRef-DOCUMENT"
assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", d["creationInfo"]["created"]) and d["documentNamespace"]
ids = {p["SPDXID"] for p in d["packages"]} | {"SPDXRef-DOCUMENT"}
assert len(ids) == len(d["packages"]) + 1
for p in d["packages"]:
    assert re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", p["SPDXID"])
    for field in ("name", "versionInfo", "downloadLocation", "licenseConcluded", "licenseDeclared", "copyrightText"):
        assert p[field], (p["name"], field)
for r in d["relationships"]:
    assert r["spdxElementId"] in ids and r["relatedSpdxElement"] in ids
names = {p["name"] for p in d["packages"]}
assert {"llmd", "libconfuse", "jansson", "utf8proc", "xxHash", "SQLite", "OpenSSL", "libmicrohttpd"} <= names
