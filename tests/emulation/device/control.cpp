// The emulated device's controls for Python: which way round it runs, and what it counts.
#include <cuda_runtime.h>

#define EXPORTED __attribute__((visibility("default")))

extern "C" {
EXPORTED void emulation_set_reversed(int reversed) { emulation::reversed = reversed != 0; }
EXPORTED long emulation_launches() { return emulation::launches; }
EXPORTED long emulation_copied_bytes() { return emulation::copied_bytes; }
}
