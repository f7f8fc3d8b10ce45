// Codes of 2 to 6 bits as a little-endian bit stream: code k occupies bits
// [k*bits, (k+1)*bits), bit i being bit i%8 of byte i/8.
#ifndef POT_ENGINE_QUANT_CODE_PACKING_H_
#define POT_ENGINE_QUANT_CODE_PACKING_H_

#include <cstdint>

#include "engine/quant/pot_format.h"

namespace pot {

// codes[count] -> bytes[(count * bits + 7) / 8]; padding bits become zero.
void PackCodes(int bits, const PotCode* codes, int64_t count, uint8_t* bytes);

// The reverse.
void UnpackCodes(int bits, const uint8_t* bytes, int64_t count, PotCode* codes);

}  // namespace pot

#endif  // POT_ENGINE_QUANT_CODE_PACKING_H_
