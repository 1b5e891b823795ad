#include "idct.h"

#include <algorithm>
#include <cstring>

#include "rows.h"

namespace greenload {

namespace {

// Vectors add and multiply in 16 bits, and pack into 16 by the nearest value.
int16_t wrapped(int32_t value) { return static_cast<int16_t>(value); }
int16_t packed(int32_t value) { return static_cast<int16_t>(std::clamp(value, -32768, 32767)); }

// Each column of a block, of 8 × 8 values. The loops are over columns, so that a compiler makes vectors of them.
template <int kShift>
void inverse(const int16_t* in, int16_t* to) {
  const int16_t *in0 = in, *in1 = in + 8, *in2 = in + 16, *in3 = in + 24, *in4 = in + 32, *in5 = in + 40, *in6 = in + 48,
                *in7 = in + 56;
  int32_t even[4][8], odd[4][8];
  for (int x = 0; x < 8; x++) {
    const int32_t sum = wrapped(in0[x] + in4[x]) * (1 << kDctBits);
    const int32_t difference = wrapped(in0[x] - in4[x]) * (1 << kDctBits);
    const int32_t even0 = in2[x] * (kFix0541 + kFix0765) + in6[x] * kFix0541;
    const int32_t even1 = in2[x] * kFix0541 + in6[x] * (kFix0541 - kFix1847);
    even[0][x] = sum + even0 + (1 << (kShift - 1));
    even[1][x] = difference + even1 + (1 << (kShift - 1));
    even[2][x] = difference - even1 + (1 << (kShift - 1));
    even[3][x] = sum - even0 + (1 << (kShift - 1));
  }
  for (int x = 0; x < 8; x++) {
    const int16_t z3 = wrapped(in7[x] + in3[x]), z4 = wrapped(in5[x] + in1[x]);
    const int32_t cross3 = z3 * (kFix1175 - kFix1961) + z4 * kFix1175;
    const int32_t cross4 = z3 * kFix1175 + z4 * (kFix1175 - kFix0390);
    odd[0][x] = in7[x] * -kFix0899 + in1[x] * (kFix1501 - kFix0899) + cross4;
    odd[1][x] = in5[x] * -kFix2562 + in3[x] * (kFix3072 - kFix2562) + cross3;
    odd[2][x] = in5[x] * (kFix2053 - kFix2562) + in3[x] * -kFix2562 + cross4;
    odd[3][x] = in7[x] * (kFix0298 - kFix0899) + in1[x] * -kFix0899 + cross3;
  }
  for (int i = 0; i < 4; i++) {
    for (int x = 0; x < 8; x++) {
      to[8 * i + x] = packed((even[i][x] + odd[i][x]) >> kShift);
      to[8 * (7 - i) + x] = packed((even[i][x] - odd[i][x]) >> kShift);
    }
  }
}

void transpose(const int16_t* from, int16_t* to) {
  for (int y = 0; y < 8; y++) {
    for (int x = 0; x < 8; x++) {
      to[8 * x + y] = from[8 * y + x];
    }
  }
}

bool only_first_row(const int16_t* coefficients) {
  return std::all_of(coefficients + 8, coefficients + 64, [](int16_t value) { return value == 0; });
}

void inverse_flat(int16_t coefficient, uint16_t quant, uint8_t* to, ptrdiff_t pitch) {
  const uint8_t level = flat_level(coefficient, quant);
  for (int y = 0; y < 8; y++, to += pitch) {
    memset(to, level, 8);
  }
}

void inverse_all(const int16_t* coefficients, const uint16_t* quant, bool first_row, uint8_t* to, ptrdiff_t pitch) {
  int16_t values[64], columns[64];
  for (int i = 0; i < 64; i++) {
    values[i] = wrapped(coefficients[i] * quant[i]);
  }
  if (first_row) {  // libjpeg's shortcut, whose large values wrap
    for (int i = 0; i < 64; i++) {
      columns[i] = wrapped(values[i % 8] * (1 << kBetweenBits));
    }
  } else {
    inverse<kColumnShift>(values, columns);
  }
  transpose(columns, values);
  inverse<kRowShift>(values, columns);
  transpose(columns, values);
  for (int y = 0; y < 8; y++, to += pitch) {
    for (int x = 0; x < 8; x++) {
      to[x] = static_cast<uint8_t>(std::clamp<int>(values[8 * y + x], -128, 127) + 128);
    }
  }
}

void inverse_dct(const int16_t* coefficients, const uint16_t* quant, int last, uint8_t* to, ptrdiff_t pitch) {
  if (last == 0) {
    inverse_flat(coefficients[0], quant[0], to, pitch);
  } else {
    inverse_all(coefficients, quant, only_first_row(coefficients), to, pitch);
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
    bool first_row = true;  // by the masks: a file may say of a zero that it is none
    if (rows > 8) {
      memcpy(block, row, 128);
      row += 128;
      first_row = only_first_row(block);
    } else {
      const uint8_t* masks = row;
      row += rows;
      if (rows && masks[0] & 1) {
        return false;
      }
      for (int y = 0; y < rows; y++) {
        first_row = first_row && (y == 0 || !masks[y]);
        for (unsigned mask = masks[y]; mask; mask &= mask - 1) {
          block[8 * y + __builtin_ctz(mask)] = static_cast<int8_t>(*row++);
        }
      }
      block[0] = static_cast<int16_t>(head >> 4);
    }
    if (i >= passed) {
      if (rows) {
        inverse_all(block, quant, first_row, to, pitch);
      } else {
        inverse_flat(block[0], quant[0], to, pitch);
      }
      to += 8;
    }
  }
  return true;
}

}  // namespace

const DctLoops kPortableDctLoops = {inverse_dct, unpack};

const DctLoops& dct_loops() { return uses_avx2() ? kAvx2DctLoops : kPortableDctLoops; }

}  // namespace greenload
