#define METRIX_ELEMENT double
#include "pair_sums.cu"
