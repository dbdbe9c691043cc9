"""Builds the C extensions; everything else is in pyproject.toml.

They are optional: without a C compiler the install succeeds, and the server scores with
onnxruntime, and reads and writes messages with protobuf.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "ranker.engine.simd._simd",
            sources=[
                "ranker/engine/simd/_simd.c",
                "ranker/engine/simd/_simd_crew.c",
                "ranker/engine/simd/_simd_explainer.c",
                "ranker/engine/simd/_simd_forest.c",
                "ranker/engine/simd/_simd_paths.c",
                "ranker/engine/simd/_simd_python.c",
                "ranker/engine/simd/_simd_shap.c",
                "ranker/engine/simd/_simd_shap_paths.c",
            ],
            depends=[
                "ranker/engine/simd/_simd_code_avx2.h",
                "ranker/engine/simd/_simd_code_avx512.h",
                "ranker/engine/simd/_simd_crew.h",
                "ranker/engine/simd/_simd_forest.h",
                "ranker/engine/simd/_simd_pair.h",
                "ranker/engine/simd/_simd_python.h",
                "ranker/engine/simd/_simd_shap.h",
                "ranker/engine/simd/_simd_shap_walk.h",
                "ranker/engine/simd/_simd_target.h",
                "ranker/engine/simd/_simd_vector_avx2.h",
                "ranker/engine/simd/_simd_vector_avx512.h",
                "ranker/engine/simd/_simd_walk.h",
                "ranker/engine/simd/_simd_wide.h",
            ],
            # No contraction: a fused multiply-add would round differently.
            extra_compile_args=[
                *("-std=c11", "-O3", "-ffp-contract=off", "-pthread", "-Wall", "-Wextra"),
            ],
            extra_link_args=["-pthread", "-lm"],
            py_limited_api=True,
            optional=True,
        ),
        Extension(
            "ranker.serving.messages._messages",
            sources=[
                "ranker/serving/messages/_messages.c",
                "ranker/serving/messages/_ranking.c",
                "ranker/serving/messages/_request.c",
            ],
            depends=["ranker/serving/messages/_ranking.h", "ranker/serving/messages/_request.h"],
            extra_compile_args=["-std=c11", "-O3", "-Wall", "-Wextra"],
            py_limited_api=True,
            optional=True,
        ),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
