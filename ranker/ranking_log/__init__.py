"""The ranking log: lists as they were asked and as they were answered, in files.

A server writes it (`writer`, `upload`), `ranker log` and `ranker replay` read it (`reader`). What
a record holds is in `protos/ranker/v1/log.proto`.
"""
