/* What the code between BEGIN_TARGET_... and END_TARGET may use of the processor. */
#ifndef RANKER_SIMD_TARGET_H
#define RANKER_SIMD_TARGET_H

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(__clang__)
#define BEGIN_TARGET_AVX2                                                                     \
    _Pragma("clang attribute push(__attribute__((target(\"avx2,fma,bmi,bmi2,popcnt\"))), apply_to = function)")
#define BEGIN_TARGET_AVX512                                                                   \
    _Pragma("clang attribute push(__attribute__((target(\"avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,fma,bmi,bmi2,popcnt\"))), apply_to = function)")
#define END_TARGET _Pragma("clang attribute pop")
#else
#define BEGIN_TARGET_AVX2 _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma,bmi,bmi2,popcnt\")")
#define BEGIN_TARGET_AVX512                                                                   \
    _Pragma("GCC push_options")                                                               \
    _Pragma("GCC target(\"avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,fma,bmi,bmi2,popcnt\")")
#define END_TARGET _Pragma("GCC pop_options")
#endif
#endif

#endif
