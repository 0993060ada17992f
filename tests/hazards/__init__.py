"""One test for each of the 29 known hazards of following a SQLite file that other programs write.

mirror/HAZARDS.md says what the mirror does about each.

===  ======================================================================  ====================
 1   the WAL is reset before it was read                                      test_following
 2   a read transaction that stays open hurts the writer                      test_harmless
 3   taking over checkpoints stalls the writer                                test_harmless
 4   the last connection to close deletes the WAL                             test_harmless
 5   resets while no mirror ran                                               test_following
 6   a spilled transaction that is not committed                              test_following
 7   a commit frame that is not published yet                                 test_following
 8   a WAL rewritten at the same size                                         test_following
 9   freed pages are not logged                                               test_decoding
10   a reused page holds another table's dead rows                            test_decoding
11   only an overflow page is logged                                          test_decoding
12   WITHOUT ROWID rows on interior pages                                     test_decoding
13   rebalancing moves rows between pages                                     test_decoding
14   VACUUM renumbers rowids and moves roots                                  test_decoding
15   ADD COLUMN logs no row                                                   test_decoding
16   the database file is newer than what was decoded                         test_following
17   closing a descriptor drops the process's locks                           test_harmless
18   the mirror itself closes last                                            test_harmless
19   writes while the mirror is down                                          test_following
20   a power cut puts Postgres ahead of the source                            test_following
21   exclusive mode, journal-mode flips, network file systems, encryption     test_refused
22   no right to write the WAL index                                          test_refused
23   pages beyond the end, the lock page, reserved bytes, UTF-16, page sizes  test_decoding
24   the file is replaced                                                     test_following
25   what a record stores is not what the row shows                           test_decoding
26   virtual tables and their shadow tables                                   test_decoding
27   a second name                                                            test_names
28   the files change and the index does not                                  test_following
29   encoding, page size, reserved bytes or size of another content           ../fault
===  ======================================================================  ====================

Each is tested end to end: a program writes, the mirror follows, every value is compared. The unit tests of the parts
concerned test many of them in more detail.
"""
