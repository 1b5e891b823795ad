// The loops of rows.h for processors with AVX2. Elsewhere they are the portable ones.
#pragma once
#include "rows.h"

namespace greenload {

extern const RowLoops kAvx2Loops;
bool has_avx2();
// Fills in columns.spread, which these loops read where there are 3 channels.
void spread_for_avx2(Columns& columns);

}  // namespace greenload
