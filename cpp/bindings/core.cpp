// Instruction sets, threads, memory, recordings.
#include "bindings/arrays.h"
#include "core/parallel.h"

namespace narae {
namespace {

py::list isas(bool (*keep)(Isa)) {
  py::list names;
  for (Isa isa : kAllIsas) {
    if (keep(isa)) names.append(isa_name(isa));
  }
  return names;
}

void use_isa(const std::string& name) {
  for (Isa isa : kAllIsas) {
    if (name == isa_name(isa) && isa_supported(isa)) return set_isa(isa);
  }
  throw py::value_error("narae.config.set_isa: expected one of " +
                        py::cast<std::string>(py::str(isas(isa_supported))) +
                        " (built, and supported by this CPU). Received: '" + name + "'.");
}

// Works on the calling thread: what it launches goes into `self` until end().
void begin(Recording& self) {
  if (recording()) throw py::value_error("narae: a step is being recorded already on this thread.");
  set_recording(&self);
}

const Binding core([](py::module_& m) {
  m.def("isa", [] { return isa_name(isa()); });
  m.def("set_isa", use_isa);
  m.def("isas_built", [] { return isas(isa_built); });
  m.def("isas_supported", [] { return isas(isa_supported); });

  m.def("num_threads", num_threads);
  m.def("default_num_threads", default_num_threads);
  m.def("set_num_threads", [](int threads) {
    if (threads < 1 || threads > 1024) {
      throw py::value_error("narae.config.set_num_threads: expected 1 to 1024. Received: " +
                            std::to_string(threads) + ".");
    }
    py::gil_scoped_release release;
    set_num_threads(threads);
  });

  m.def("memory_stats", [] {
    const MemoryStats stats = memory_stats();
    py::dict d;
    d["allocated_bytes"] = stats.allocated_bytes;
    d["peak_bytes"] = stats.peak_bytes;
    d["cached_bytes"] = stats.cached_bytes;
    return d;
  });
  m.def("reset_peak_memory", reset_peak_memory);
  m.def("empty_cache", empty_cache);
  m.def("set_poison", set_poison);
  m.def("guard_violations", guard_violations);
  m.def("empty", [](const Shape& shape, const py::dtype& dtype) {
    checked_size("empty", shape);
    return empty_array(dtype, shape);
  });

  py::class_<Recording>(m, "Recording")
      .def(py::init<>())
      .def("begin", begin)
      .def("end", [](Recording&) { set_recording(nullptr); })
      .def("replay",
           [](const Recording& self) {
             py::gil_scoped_release release;
             self.replay();
           })
      .def(
          "time",
          [](const Recording& self, int repeats) {
            py::gil_scoped_release release;
            return self.time(repeats);
          },
          py::arg("repeats"))
      .def("work",  // (flops, bytes) of each call
           [](const Recording& self) {
             py::list calls;
             for (const auto& w : self.work()) calls.append(py::make_tuple(w.flops, w.bytes));
             return calls;
           })
      .def("abandon", &Recording::abandon)
      .def_property_readonly("reason", &Recording::reason)
      .def("__len__", &Recording::size);
  m.def("is_recording", [] { return recording() != nullptr; });
  // A reading of a value while recording: the recording cannot be replayed.
  m.def("abandon_recording", [](const std::string& reason) {
    if (Recording* active = recording()) active->abandon(reason);
  });
  // Leaves the recording for work that must not be in it; resume_recording(token) returns.
  m.def("pause_recording", [] {
    Recording* active = recording();
    set_recording(nullptr);
    return reinterpret_cast<std::uintptr_t>(active);
  });
  m.def("resume_recording",
        [](std::uintptr_t token) { set_recording(reinterpret_cast<Recording*>(token)); });
});

}  // namespace
}  // namespace narae
