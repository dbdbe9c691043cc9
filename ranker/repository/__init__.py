"""Where models come from: versions in a folder or a bucket, or one plain file.

    from ranker.repository.repository import open_repository

    repository = open_repository("gs://bucket/rankers/books")
    newest = repository.poll()[-1]
    model = Model.load(repository.fetch(newest).path)

A repository of one model holds `VERSION/model.onnx`, and beside it
`VERSION/manifest.json`, which is written last: a version without one is not there
yet. A version is never written again.
"""
