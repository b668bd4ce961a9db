"""Counts the rows of a Delta table on S3 through deltalake: s3_rows.py ENDPOINT URL"""

import os
import sys

import deltalake

endpoint, url = sys.argv[1:3]
options = {
    "AWS_ENDPOINT_URL": endpoint,
    "AWS_ALLOW_HTTP": "true",
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "testtest",
}
table = deltalake.DeltaTable(url, storage_options=options)
print(table.to_pyarrow_table(columns=["_offset"]).num_rows)
sys.stdout.flush()
# The threads of deltalake's runtime may abort an orderly exit.
os._exit(0)
