#include "values.h"

namespace greenload {

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
