#include "idct.h"

#include <algorithm>
#include <cstring>

#include "rows.h"

namespace greenload {

namespace {

// Vectors add and multiply in 16 bits, and pack into 16 by the nearest value.
int16_t wrapped(int32_t value) { return static_cast<int16_t>(value); }
int16_t packed(int32_t value) { return static_cast<int16_t>(std::clamp(value, -32768, 32767)); }

// Eight values, each `step` behind the last, to as many.
template <int kShift>
void inverse(const int16_t* from, int step, int16_t* to) {
  int32_t in[8];
  for (int i = 0; i < 8; i++) {
    in[i] = from[i * step];
  }
  const int32_t sum = wrapped(in[0] + in[4]) * (1 << kDctBits), difference = wrapped(in[0] - in[4]) * (1 << kDctBits);
  const int32_t even0 = in[2] * (kFix0541 + kFix0765) + in[6] * kFix0541;
  const int32_t even1 = in[2] * kFix0541 + in[6] * (kFix0541 - kFix1847);
  const int32_t z3 = wrapped(in[7] + in[3]), z4 = wrapped(in[5] + in[1]);
  const int32_t cross3 = z3 * (kFix1175 - kFix1961) + z4 * kFix1175;
  const int32_t cross4 = z3 * kFix1175 + z4 * (kFix1175 - kFix0390);
  const int32_t even[4] = {sum + even0, difference + even1, difference - even1, sum - even0};
  const int32_t odd[4] = {-in[7] * kFix0899 + in[1] * (kFix1501 - kFix0899) + cross4,
                          -in[5] * kFix2562 + in[3] * (kFix3072 - kFix2562) + cross3,
                          in[5] * (kFix2053 - kFix2562) - in[3] * kFix2562 + cross4,
                          in[7] * (kFix0298 - kFix0899) - in[1] * kFix0899 + cross3};
  for (int i = 0; i < 4; i++) {
    to[i * step] = packed((even[i] + odd[i] + (1 << (kShift - 1))) >> kShift);
    to[(7 - i) * step] = packed((even[i] - odd[i] + (1 << (kShift - 1))) >> kShift);
  }
}

bool only_first_row(const int16_t* coefficients) {
  return std::all_of(coefficients + 8, coefficients + 64, [](int16_t value) { return value == 0; });
}

void inverse_dct(const int16_t* coefficients, const uint16_t* quant, int last, uint8_t* to, ptrdiff_t pitch) {
  if (last == 0) {
    const uint8_t level = flat_level(coefficients[0], quant[0]);
    for (int y = 0; y < 8; y++, to += pitch) {
      memset(to, level, 8);
    }
    return;
  }
  int16_t values[64], columns[64], rows[64];
  for (int i = 0; i < 64; i++) {
    values[i] = wrapped(coefficients[i] * quant[i]);
  }
  if (only_first_row(coefficients)) {  // libjpeg's shortcut, whose large values wrap
    for (int i = 0; i < 64; i++) {
      columns[i] = wrapped(values[i % 8] * (1 << kBetweenBits));
    }
  } else {
    for (int x = 0; x < 8; x++) {
      inverse<kColumnShift>(values + x, 8, columns + x);
    }
  }
  for (int y = 0; y < 8; y++, to += pitch) {
    inverse<kRowShift>(columns + 8 * y, 1, rows + 8 * y);
    for (int x = 0; x < 8; x++) {
      to[x] = static_cast<uint8_t>(std::clamp<int>(rows[8 * y + x], -128, 127) + 128);
    }
  }
}

bool unpack(const uint8_t* row, const uint8_t* end, int64_t passed, int64_t count, const uint16_t* quant, uint8_t* to,
            ptrdiff_t pitch) {
  for (int64_t i = 0; i < passed + count; i++) {
    if (row >= end) {
      return false;
    }
    int16_t head, block[64] = {};
    memcpy(&head, row, 2);
    row += 2;
    const int rows = head & 15;
    if (rows > 8) {
      memcpy(block, row, 128);
      row += 128;
    } else {
      const uint8_t* masks = row;
      row += rows;
      for (int y = 0; y < rows; y++) {
        for (int x = 0; x < 8; x++) {
          if (masks[y] >> x & 1) {
            block[8 * y + x] = static_cast<int8_t>(*row++);
          }
        }
      }
      block[0] = static_cast<int16_t>(head >> 4);
    }
    if (i >= passed) {
      inverse_dct(block, quant, rows ? 63 : 0, to, pitch);
      to += 8;
    }
  }
  return true;
}

}  // namespace

const DctLoops kPortableDctLoops = {inverse_dct, unpack};

const DctLoops& dct_loops() { return uses_avx2() ? kAvx2DctLoops : kPortableDctLoops; }

}  // namespace greenload
