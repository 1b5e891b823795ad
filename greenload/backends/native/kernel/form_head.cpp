#include "form_head.h"

#include <cstring>

#include "failure.h"
#include "probe.h"

namespace greenload {

bool FormHead::begins(const uint8_t* file, int64_t length) const { return length >= 4 && memcmp(file, letters, 4) == 0; }

Planes FormHead::read(const uint8_t* file, int64_t length) const {
  if (length < kFormHead || !begins(file, length) || file[4] != version) {
    fail(GL_BAD_FILE, "%s of another version", what);
  }
  Planes sizes;
  sizes.components = file[5];
  sizes.across = file[6];
  sizes.down = file[7];
  uint32_t sides[2];
  memcpy(sides, file + 8, sizeof sides);
  sizes.width = sides[0];
  sizes.height = sides[1];
  const bool known = (sizes.components == 1 || sizes.components == 3) && sizes.across >= 1 && sizes.across <= 2 &&
                     sizes.down >= 1 && sizes.down <= 2;
  if (!known || sizes.width < 1 || sizes.height < 1 || sizes.width > kLongestSide || sizes.height > kLongestSide ||
      sizes.height * sizes.width >= kMostValues) {
    refuse();
  }
  return sizes;
}

void FormHead::write(const Planes& sizes, uint8_t* to) const {
  memset(to, 0, kFormHead);
  memcpy(to, letters, 4);
  to[4] = version;
  to[5] = static_cast<uint8_t>(sizes.components);
  to[6] = static_cast<uint8_t>(sizes.across);
  to[7] = static_cast<uint8_t>(sizes.down);
  const uint32_t sides[2] = {static_cast<uint32_t>(sizes.width), static_cast<uint32_t>(sizes.height)};
  memcpy(to + 8, sides, sizeof sides);
}

void FormHead::refuse() const { fail(GL_BAD_FILE, "%s that aren't whole", what); }

}  // namespace greenload
