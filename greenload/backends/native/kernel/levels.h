// Maps of single levels of uint8 images: each a table of 256, so that maps one behind another are one look-up.
#pragma once
#include "abi.h"
#include "buffer.h"
#include "image.h"

namespace greenload {

inline bool is_level_map(int32_t op) {
  return op == GL_LOOKUP || (op >= GL_AUTOCONTRAST && op <= GL_EQUALIZE) || (op >= GL_BRIGHTNESS && op <= GL_SOLARIZE);
}

// Maps one behind another, as the table of them all. Those that depend on the image see it as the ones before leave it:
// by looking up parts of it, or where its levels were counted, which is done once and only for GL_EQUALIZE, by the
// counts through the table so far.
class LevelMaps {
 public:
  // The image as it is before the first. What is made of it is in `memory`.
  LevelMaps(const Image& image, Buffer& memory);

  // One more: a gl_op with its param, and the table of GL_LOOKUP. Throws a Failure where the param is out of range.
  void add(int32_t op, double param, const uint8_t* table);

  const uint8_t* tables() const { return tables_; }
  // How many tables: one a channel, or one for all.
  int count() const { return count_; }
  // Whether each level stays as it is.
  bool change_nothing() const;

 private:
  void append(int c, const uint8_t* map);
  template <class Map>
  void append_all(Map map);
  void tell_channels_apart();
  const uint8_t* table(int c) const;
  void levels_of(int c, uint32_t* counts);
  template <class Work>
  void by_parts(Work work) const;
  void find_ranges();
  double grey();

  const Image& image_;
  int64_t part_rows_;
  uint32_t* counts_;  // [channels, 256] of the image, once counted_
  uint8_t* tables_;   // [count_, 256]
  uint8_t *low_, *high_;
  uint8_t* part_;  // [part_rows_] of the image
  int count_ = 1;
  bool counted_ = false, unchanged_ = true;
};

}  // namespace greenload
