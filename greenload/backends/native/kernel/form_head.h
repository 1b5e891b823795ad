// What the kernel's own forms of a JPEG begin with: four letters that name the form, its version, components (1 or 3),
// across and down (1 or 2: columns and rows of luma for one of chroma); width, height as uint32; 16 zeros.
#pragma once
#include <cstdint>

#include "planes.h"

namespace greenload {

constexpr int kFormHead = 32;

struct FormHead {
  char letters[5];
  uint8_t version;
  const char* what;  // it holds, as a Failure says

  bool begins(const uint8_t* file, int64_t length) const;
  // The sizes that a file states. Throws a Failure where it is of another version, or states what no JPEG has.
  Planes read(const uint8_t* file, int64_t length) const;
  // Writes kFormHead bytes.
  void write(const Planes& sizes, uint8_t* to) const;
  [[noreturn]] void refuse() const;  // a file that isn't whole
};

}  // namespace greenload
