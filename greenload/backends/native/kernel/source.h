// An image whose rows are made when a step asks for them: it is never in memory as a whole.
#pragma once
#include <cstdint>

namespace greenload {

// Into rows that are aligned libjpeg-turbo writes past the caches, where they are wanted next: places lie so much off.
constexpr int64_t kUnaligned = 8;

class RowSource {
 public:
  virtual ~RowSource() = default;
  // Writes rows first … first + count − 1, each to a place of its own: `pitch` bytes, of which the row begins at
  // `offset`, with kSlack more behind them. Rows are asked for from top to bottom, each at most once. Throws a Failure.
  virtual void make(int64_t first, int64_t count, uint8_t* const* places) = 0;

  int64_t pitch = 0, offset = 0;
};

}  // namespace greenload
