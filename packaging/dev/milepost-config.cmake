# find_package(milepost 1.0) gives milepost::plugin, headers only, and MILEPOST_PLUGIN_DIR.
set(MILEPOST_PLUGIN_DIR "/usr/lib/milepost/plugins")
set(MILEPOST_SCHEMA_DIR "/usr/share/milepost/schemas")
if(NOT TARGET milepost::plugin)
  add_library(milepost::plugin INTERFACE IMPORTED)
  set_target_properties(milepost::plugin PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "/usr/include")
endif()
