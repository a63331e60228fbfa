"""A content-addressed store for data, runs and models, on S3 or in a directory.

`import asyncfetch` loads nothing of it.
"""

from asyncfetch.datastore.dedup import DedupReport
from asyncfetch.datastore.errors import (
    DataDamaged,
    DataNotFound,
    DataStoreError,
    DocumentDamaged,
    InvalidDigest,
    InvalidName,
    MigrationIncomplete,
    ModelExists,
    ModelNotFound,
    NewerLayout,
    NotStorable,
    RunExists,
    RunNotFound,
    SourceChanged,
    StoreNotFound,
)
from asyncfetch.datastore.gc import Collected
from asyncfetch.datastore.migrate import Migrated
from asyncfetch.datastore.models import ModelRegistry, ModelVersion, Stage
from asyncfetch.datastore.references import DataReference, StoredData
from asyncfetch.datastore.runs import Run
from asyncfetch.datastore.store import DataStore
from asyncfetch.datastore.verify import Finding, Verified

__all__ = [
    "Collected",
    "DataDamaged",
    "DataNotFound",
    "DataReference",
    "DataStore",
    "DataStoreError",
    "DedupReport",
    "DocumentDamaged",
    "Finding",
    "InvalidDigest",
    "InvalidName",
    "Migrated",
    "MigrationIncomplete",
    "ModelExists",
    "ModelNotFound",
    "ModelRegistry",
    "ModelVersion",
    "NewerLayout",
    "NotStorable",
    "Run",
    "RunExists",
    "RunNotFound",
    "SourceChanged",
    "Stage",
    "StoreNotFound",
    "StoredData",
    "Verified",
]
