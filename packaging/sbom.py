#!/usr/bin/env python3
"""sbom.py VERSION CUDA - what the program is made of, as SPDX 2.3 JSON: itself, what it is linked with statically
(versions of the builder's packages) and what it opens. The same input gives the same bytes."""
import datetime
import hashlib
import json
import os
import subprocess
import sys

# Debian package, name, licence, linked how
LIBRARIES = [
    ("libconfuse-dev", "libconfuse", "ISC", "STATIC_LINK"),
    ("libjansson-dev", "jansson", "MIT", "STATIC_LINK"),
    ("libutf8proc-dev", "utf8proc", "MIT AND Unicode-DFS-2015", "STATIC_LINK"),
    ("libxxhash-dev", "xxHash", "BSD-2-Clause", "STATIC_LINK"),
    ("libsqlite3-dev", "SQLite", "blessing", "STATIC_LINK"),
    ("libmicrohttpd-dev", "libmicrohttpd", "LGPL-2.1-or-later", "DYNAMIC_LINK"),
    ("libssl-dev", "OpenSSL", "Apache-2.0", "DYNAMIC_LINK"),
    ("libcurl4-openssl-dev", "libcurl", "curl", "DYNAMIC_LINK"),
    ("libc6-dev", "glibc", "LGPL-2.1-or-later", "DYNAMIC_LINK"),
]


def version_of(package):
    return subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], check=True, capture_output=True,
                          text=True).stdout


def cuda_version():
    text = subprocess.run(["nvcc", "--version"], check=True, capture_output=True, text=True).stdout
    return text.split("release ")[1].split(",")[0]


def package(name, version, licence, supplier="NOASSERTION"):
    return {"SPDXID": "SPDXRef-" + "".join(c if c.isalnum() else "-" for c in name), "name": name,
            "versionInfo": version, "downloadLocation": "NOASSERTION", "filesAnalyzed": False,
            "licenseConcluded": licence, "licenseDeclared": licence, "copyrightText": "NOASSERTION",
            "supplier": supplier}


def main():
    version, cuda = sys.argv[1], sys.argv[2] == "1"
    parts = [(package(name, version_of(deb), licence), how) for deb, name, licence, how in LIBRARIES]
    if cuda:
        parts.append((package("CUDA-runtime", cuda_version(), "LicenseRef-NVIDIA-CUDA-EULA"), "STATIC_LINK"))
    root = package("llmd", version, "Apache-2.0")
    relations = [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                  "relatedSpdxElement": root["SPDXID"]}]
    relations += [{"spdxElementId": root["SPDXID"], "relationshipType": how, "relatedSpdxElement": p["SPDXID"]}
                  for p, how in parts]
    created = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    document = {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
                "name": f"llmd-{version}",
                "creationInfo": {"created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
                                 "creators": ["Tool: llmd packaging/sbom.py"]},
                "packages": [root] + [p for p, _ in parts], "relationships": relations}
    if cuda:
        document["hasExtractedLicensingInfos"] = [
            {"licenseId": "LicenseRef-NVIDIA-CUDA-EULA", "name": "NVIDIA CUDA Toolkit End User License Agreement",
             "extractedText": "https://docs.nvidia.com/cuda/eula/"}]
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    document["documentNamespace"] = f"https://spdx.org/spdxdocs/llmd-{version}-{digest[:32]}"
    print(json.dumps(document, indent=1, sort_keys=True))


main()
