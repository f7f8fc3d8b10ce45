// Elementary functions that give the same bits on every machine. libm's differ
// between CPUs: glibc picks variants with fused multiply-add at run time.
#ifndef POT_ENGINE_KERNELS_FLOAT_MATH_H_
#define POT_ENGINE_KERNELS_FLOAT_MATH_H_

#include <cstdint>

namespace pot {

// e^x within 1.5 ulp (normal results); the same bits as softmax uses. 0 below
// about -103.97, +inf above about 88.72.
float ExpF(float x);

// e^x within 2 ulp (normal results); 0 below about -745.13, +inf above about
// 709.78.
double Exp(double x);

// Natural logarithm within 2 ulp; log(0) = -inf, NaN for x < 0.
double Log(double x);

// log(sum of e^x[i]) over count >= 1 values that are not NaN; -inf values
// count as absent, and the result is -inf when all are. Absolute error
// <= 2e-7 + 2^-52 |result| for values in [-1e4, 1e4]: every term is within
// 1.5 ulp of float, their sum is in double.
// A token's log-probability is logit - LogSumExp(logits).
double LogSumExp(const float* x, int64_t count);

// The operations of that name of a KernelTable.
int64_t ArgMax(const float* x, int64_t count);
void SamplingWeights(double* values, int64_t count, double max,
                     double temperature, uint64_t* weights);

}  // namespace pot

#endif  // POT_ENGINE_KERNELS_FLOAT_MATH_H_
