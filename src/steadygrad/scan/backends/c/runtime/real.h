/* The type of all values, and the functions of one: r_exp(x), r_max(a, b), ...

   Printed before this file: SHARED, what functions begin with that are compiled once for all cells;
   BYTES, 4 for float or 8 for double; and EXACT, 1 if exp, tanh, sin and the like are to be the C
   library's. Without EXACT those of a float are ours (float_functions.h,
   sincos.h): they are inlined and have no branch, so that the loop over units around them is
   vectorised. In double they are always the library's: it is chosen for its accuracy. */
#pragma once
#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

typedef int64_t word; /* of the argument array: a size, a number or an address */
#if BYTES == 4
typedef float real;
static inline real r_sqrt(real x) { return __builtin_sqrtf(x); }
static inline real r_abs(real x) { return __builtin_fabsf(x); }
static inline real r_pow(real x, real y) { return powf(x, y); }
static inline real r_log(real x) { return logf(x); }
static inline real r_expm1(real x) { return expm1f(x); }
static inline real r_ldexp(real x, int e) { return ldexpf(x, e); }
#if EXACT
static inline real r_exp(real x) { return expf(x); }
static inline real r_log1p(real x) { return log1pf(x); }
static inline real r_tanh(real x) { return tanhf(x); }
static inline real r_sin(real x) { return sinf(x); }
static inline real r_cos(real x) { return cosf(x); }
static inline real r_sigmoid(real x) { return (real)(1.0 / (1.0 + exp(-(double)x))); }
#else
#include "float_functions.h"
#include "sincos.h"
#endif
#else
typedef double real;
static inline real r_sqrt(real x) { return __builtin_sqrt(x); }
static inline real r_abs(real x) { return __builtin_fabs(x); }
static inline real r_pow(real x, real y) { return pow(x, y); }
static inline real r_log(real x) { return log(x); }
static inline real r_log1p(real x) { return log1p(x); }
static inline real r_expm1(real x) { return expm1(x); }
static inline real r_sin(real x) { return sin(x); }
static inline real r_cos(real x) { return cos(x); }
static inline real r_ldexp(real x, int e) { return ldexp(x, e); }
static inline real r_exp(real x) { return exp(x); }
static inline real r_tanh(real x) { return tanh(x); }
static inline real r_sigmoid(real x) { return 1.0 / (1.0 + exp(-x)); }
#endif

/* As in torch: the sign of a zero and of a NaN is 0, and a NaN comes out of the other two. */
static inline real r_sign(real x) { return x > 0 ? (real)1 : (x < 0 ? (real)-1 : (real)0); }
static inline real r_max(real a, real b) { return a != a ? a : (a > b ? a : b); }
static inline real r_min(real a, real b) { return a != a ? a : (a < b ? a : b); }
