// The rounding that the code of arXiv 2506.00315 and 2601.02298 runs, in
// float32. Internal to the quantizer.
#ifndef POT_ENGINE_QUANT_PAPER_ROUNDING_H_
#define POT_ENGINE_QUANT_PAPER_ROUNDING_H_

namespace pot {

// |n| rounded to an integer, half to even; n itself from 2^23 on.
float RoundHalfEven(float magnitude);

// round(log2 a) as float32 gives it when log2 is correctly rounded and round
// takes halves to even; `a` is an integer >= 1, or infinite (then 128).
int RoundedLog2(float a);

}  // namespace pot

#endif  // POT_ENGINE_QUANT_PAPER_ROUNDING_H_
