from partwise.testing import ResumeMachine

TestInMemory = ResumeMachine.TestCase
