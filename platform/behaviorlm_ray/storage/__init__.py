"""Files that survive crashes and other writers, in local folders and on S3, behind the same operations."""
# ruff: noqa: F401  # what is imported here is what storage offers

from behaviorlm_ray.storage.full_disk import disk_full_message, is_disk_full, storage_errors
from behaviorlm_ray.storage.local import copies_folder, flush_to_disk
from behaviorlm_ray.storage.locations import (
    PATIENCE_SECONDS,
    FileDigest,
    Location,
    S3Location,
    location,
)
from behaviorlm_ray.storage.operations import (
    Storage,
    check_root,
    damaged_files,
    describe_folder,
    hash_file,
    hash_files,
    list_files,
    list_folders,
    local_copy,
    make_folder,
    read_bytes,
    read_text,
    remove_emptied,
    remove_folder,
    remove_if,
    replace_if,
    sizes,
    store_of,
    with_digests,
    with_patience,
    write_exclusive,
    write_replacing,
    writing,
    writing_file,
)
