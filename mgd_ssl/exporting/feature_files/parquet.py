"""``.parquet``: columns ``file``, ``label`` and ``features``, for pandas, Polars and DuckDB."""

from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mgd_ssl.exporting.feature_files.table import FeatureFile, FeatureTable

METADATA = b"mgd_ssl"  # of the schema


class Parquet(FeatureFile):
    """A row group a part; features are lists of fixed length."""

    packages: ClassVar = {"pyarrow": "pyarrow>=15"}

    @staticmethod
    def write(file: IO[bytes], table: FeatureTable) -> None:
        """Write one part after the other."""
        from pyarrow import parquet

        schema = _schema(table)
        with parquet.ParquetWriter(file, schema) as writer:
            start = 0
            for rows in table.parts():
                writer.write_table(_rows(table, schema, start, rows))
                start += len(rows)


def _schema(table: FeatureTable) -> Any:
    import pyarrow as pa

    fields = [pa.field("file", pa.string(), nullable=False)]
    fields += [] if table.labels is None else [pa.field("label", pa.int64(), nullable=False)]
    vector = pa.list_(pa.field("item", pa.float32(), nullable=False), table.dimension)
    fields += [pa.field("features", vector, nullable=False)]
    return pa.schema(fields, metadata={METADATA: table.metadata.encode()})


def _rows(table: FeatureTable, schema: Any, start: int, rows: NDArray[np.float32]) -> Any:
    import pyarrow as pa

    here = slice(start, start + len(rows))
    columns: list[Any] = [pa.array(table.files[here], pa.string())]
    columns += [] if table.labels is None else [pa.array(table.labels[here], pa.int64())]
    values = pa.array(rows.reshape(-1), pa.float32())
    columns += [pa.FixedSizeListArray.from_arrays(values, type=schema.field("features").type)]
    return pa.Table.from_arrays(columns, schema=schema)
