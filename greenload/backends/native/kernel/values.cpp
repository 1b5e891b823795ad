#include "values.h"

namespace greenload {

uint16_t as_float16(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  const uint16_t sign = static_cast<uint16_t>(bits >> 48 & 0x8000);
  const double size = std::fabs(value);
  if (value != value) {
    return static_cast<uint16_t>(sign | 0x7E00);
  }
  if (size >= 65520.0) {
    return static_cast<uint16_t>(sign | 0x7C00);  // halfway to what would come next
  }
  if (size < 0x1p-14) {  // whole steps of 2⁻²⁴; the largest is the first normal number, and its bits follow on
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(size * 0x1p24)));
  }
  int exponent;
  const double fraction = std::frexp(size, &exponent);                    // 0.5 … 1
  const int steps = static_cast<int>(std::nearbyint(fraction * 2048.0));  // 1024 … 2048; 2048 carries over
  return static_cast<uint16_t>(sign | static_cast<uint16_t>(((exponent + 14) << 10) + steps - 1024));
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
  uint16_t small;
  float single;
  switch (dtype) {
    case GL_UINT8: return from[index];
    case GL_INT8: return static_cast<int8_t>(from[index]);
    case GL_FLOAT16: memcpy(&small, from + 2 * index, 2); return from_float16(small);
    case GL_BFLOAT16: memcpy(&small, from + 2 * index, 2); return from_bfloat16(small);
    default: memcpy(&single, from + 4 * index, 4); return single;
  }
}

void write_value(uint8_t* to, int64_t index, int32_t dtype, double value) {
  uint16_t small;
  float single;
  switch (dtype) {
    case GL_UINT8: to[index] = as_uint8(value); return;
    case GL_INT8: to[index] = static_cast<uint8_t>(as_int8(value)); return;
    case GL_FLOAT16:
      small = as_float16(value);
      memcpy(to + 2 * index, &small, 2);
      return;
    case GL_BFLOAT16:
      small = as_bfloat16(static_cast<float>(value));
      memcpy(to + 2 * index, &small, 2);
      return;
    default:
      single = static_cast<float>(value);
      memcpy(to + 4 * index, &single, 4);
      return;
  }
}

}  // namespace greenload
