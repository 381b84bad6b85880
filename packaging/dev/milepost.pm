# SPDX-License-Identifier: Apache-2.0
# dh --with milepost: dh_milepost looks at every plugin that a package holds.
use strict;
use warnings;
use Debian::Debhelper::Dh_Lib;

insert_before('dh_gencontrol', 'dh_milepost');

1;
