"""SQL over a stored table, by DuckDB, on the file that the cache has of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from asyncfetch.datastore.threads import to_its_end
from asyncfetch.errors import ExtraMissing, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pyarrow as pa


async def query(path: Path, sql: str) -> pa.Table:
    """What a statement gives over a Parquet file, which it names `data`; see `DataStore.query`."""
    connection = await asyncio.to_thread(_connect, path)
    try:
        asking = asyncio.ensure_future(asyncio.to_thread(_ask, connection, sql))
        return await to_its_end(asking, connection.interrupt)
    finally:
        connection.close()


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        import duckdb
    except ImportError:
        raise ExtraMissing(
            "Queries are run by duckdb, which is missing", remedy="pip install 'asyncfetch[query]'"
        ) from None
    quoted = str(path).replace("'", "''")
    connection = duckdb.connect(":memory:")
    try:
        # The statement sees this file, and no other one of the machine, and cannot change that.
        connection.execute(f"SET allowed_paths = ['{quoted}']")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        connection.execute(f"CREATE VIEW data AS SELECT * FROM read_parquet('{quoted}')")  # noqa: S608 - quoted
    except duckdb.Error as error:
        connection.close()
        raise UsageError(f"{path} cannot be queried: {error}") from None
    return connection


def _ask(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    import duckdb

    try:
        result = connection.sql(sql)
    except duckdb.Error as error:
        raise UsageError(f"The query failed: {error}", remedy="The table is called data.") from None
    if result is None:
        raise UsageError("The query gives no table", remedy="Write SELECT … FROM data.")
    try:
        return cast("pa.Table", result.to_arrow_table())
    except duckdb.Error as error:
        raise UsageError(f"The query failed: {error}") from None
