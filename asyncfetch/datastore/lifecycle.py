"""Lifecycle rules for the bucket of a store, as S3 takes them. Printed, never applied: they are the bucket's owner's.

See "Examples of S3 Lifecycle configurations" in the Amazon S3 User Guide.
"""

from __future__ import annotations

from typing import Any

# Intelligent-Tiering watches objects from 128 KiB on, and leaves smaller ones as they are.
_SMALLEST = 128 << 10


def lifecycle_rules(root: str, data: str, *, tier_after_days: int, keep_versions_days: int) -> dict[str, Any]:
    """A lifecycle configuration for a store below the prefix `root`, whose data lies below `root` + `data`.

    No rule removes what is current: how old data is does not say whether a run needs it, and `gc` does.
    """
    return {
        "Rules": [
            {
                "ID": "abort-unfinished-uploads",
                "Status": "Enabled",
                "Filter": {"Prefix": root},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
            },
            {
                "ID": "tier-data",
                "Status": "Enabled",
                "Filter": {"And": {"Prefix": root + data, "ObjectSizeGreaterThan": _SMALLEST}},
                "Transitions": [{"Days": tier_after_days, "StorageClass": "INTELLIGENT_TIERING"}],
            },
            {
                "ID": "expire-what-was-deleted",
                "Status": "Enabled",
                "Filter": {"Prefix": root},
                "NoncurrentVersionExpiration": {"NoncurrentDays": keep_versions_days},
                "Expiration": {"ExpiredObjectDeleteMarker": True},
            },
        ]
    }
