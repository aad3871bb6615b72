#include "core/recorder.h"

namespace narae {
namespace {
thread_local Recording* active = nullptr;
}

Recording* recording() { return active; }
void set_recording(Recording* recording) { active = recording; }

}  // namespace narae
