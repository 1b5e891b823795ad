#include "values.h"

namespace greenload {

uint16_t as_float16(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint16_t sign = static_cast<uint16_t>(bits >> 48 & 0x8000);
  const int exponent = static_cast<int>(bits >> 52 & 0x7FF) - 1023;
  uint64_t fraction = bits & ((uint64_t{1} << 52) - 1);
  if (exponent > 15) {
    return static_cast<uint16_t>(sign | (value != value ? 0x7E00 : 0x7C00));
  }
  if (exponent < -25) {
    return sign;
  }
  // Of the 52 bits of the fraction 10 are kept; of numbers below 2⁻¹⁴ fewer, in steps of 2⁻²⁴.
  int dropped = 42;
  uint64_t half = static_cast<uint64_t>(exponent + 15) << 10;
  if (exponent < -14) {
    dropped += -14 - exponent;
    fraction |= uint64_t{1} << 52;
    half = 0;
  }
  half += fraction >> dropped;
  const uint64_t rest = fraction & ((uint64_t{1} << dropped) - 1), tie = uint64_t{1} << (dropped - 1);
  half += rest > tie || (rest == tie && (half & 1));  // which may carry over to the next power, and to infinity
  return static_cast<uint16_t>(sign | half);
}

float from_float16(uint16_t half) {
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  float size;
  if (exponent == 31) {
    size = fraction ? NAN : INFINITY;
  } else {
    size = exponent ? std::ldexp(1024.0f + fraction, exponent - 25) : std::ldexp(static_cast<float>(fraction), -24);
  }
  return half & 0x8000 ? -size : size;
}

double read_value(const uint8_t* from, int64_t index, int32_t dtype) {
  return by_dtype(dtype, [&](auto type) {
    typename decltype(type)::Value value;
    memcpy(&value, from + index * sizeof value, sizeof value);
    return type.read(value);
  });
}

void write_value(uint8_t* to, int64_t index, int32_t dtype, double number) {
  by_dtype(dtype, [&](auto type) {
    const auto value = type.write(number);
    memcpy(to + index * sizeof value, &value, sizeof value);
  });
}

}  // namespace greenload
