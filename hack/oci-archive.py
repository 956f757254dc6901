#!/usr/bin/env python3
"""Writes an OCI archive of an image that holds one static binary, or a folder of files.

    oci-archive.py ARCHIVE NAME:TAG BINARY [ARGUMENT...]
    oci-archive.py ARCHIVE NAME:TAG FOLDER PROGRAM [ARGUMENT...]

The binary, or PROGRAM, is the entry point, ARGUMENTs come first. Whoever runs it may choose any user; by default it is
65532, who owns nothing, and root for a folder. The same input gives the same archive, byte for byte, since nothing in it tells the time.
Source: OCI image format specification 1.1, https://github.com/opencontainers/image-spec
"""

import gzip
import hashlib
import io
import json
import pathlib
import platform
import sys
import tarfile

USER = "65532:65532"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# How containerd names an image whose name has no host.
DEFAULT_HOST = "docker" + ".io"


def entry(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    """Adds a file of root's from the beginning of time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    archive.addfile(info, io.BytesIO(data))


def folder(archive: tarfile.TarFile, name: str, mode: int) -> None:
    """Adds an empty folder."""
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    archive.addfile(info)


def layer_of(binary: pathlib.Path) -> bytes:
    """The image's only layer, as a tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        folder(archive, "tmp", 0o1777)
        folder(archive, "etc", 0o755)
        entry(archive, "etc/passwd", b"root:x:0:0::/:\nlandfall:x:65532:65532::/:\n")
        entry(archive, "etc/group", b"root:x:0:\nlandfall:x:65532:\n")
        entry(archive, binary.name, binary.read_bytes(), 0o755)
    return packed.getvalue()


def layer_of_folder(base: pathlib.Path) -> bytes:
    """The same of everything below `base`, all of it root's."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(base.rglob("*")):
            info = archive.gettarinfo(path, str(path.relative_to(base)))
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            if info.isreg():
                with path.open("rb") as file:
                    archive.addfile(info, file)
            else:
                archive.addfile(info)
    return packed.getvalue()


def full_name(name: str) -> str:
    """The name that containerd knows an image by."""
    host, slash, _ = name.partition("/")
    return name if slash and "." in host else f"{DEFAULT_HOST}/{name}"


def main() -> None:
    """Writes the archive that the arguments describe."""
    target, name, binary, *arguments = sys.argv[1:]
    binary = pathlib.Path(binary)
    architecture = ARCHITECTURES[platform.machine()]
    if binary.is_dir():
        layer, entry_point, user, level = layer_of_folder(binary), arguments, "0:0", 1
    else:
        layer, entry_point, user, level = layer_of(binary), [f"/{binary.name}", *arguments], USER, 9
    packed = gzip.compress(layer, level, mtime=0)
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, media_type: str) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}

    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": entry_point, "User": user, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [blob(packed, "layer.v1.tar+gzip")],
    }
    described = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    described["platform"] = {"architecture": architecture, "os": "linux"}
    described["annotations"] = {
        "io.containerd.image.name": full_name(name),
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [described]}
    unfinished = pathlib.Path(target + ".new")
    with tarfile.open(unfinished, mode="w") as archive:
        entry(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        entry(archive, "index.json", json.dumps(index).encode())
        for digest, data in blobs.items():
            entry(archive, f"blobs/sha256/{digest}", data)
    unfinished.rename(target)
    print(f"{name}: {len(layer) / 1e6:.1f} MB, {len(packed) / 1e6:.1f} MB packed: {target}")


if __name__ == "__main__":
    main()
